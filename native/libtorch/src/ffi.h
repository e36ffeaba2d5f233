// How functions for Rust end: with a new tensor, or with null and the message of what went wrong in
// *error, to be freed by flambeau_free.

#pragma once

#include <ATen/core/Tensor.h>

#include <cstring>
#include <exception>

template <typename Make>
at::Tensor* guarded(char** error, Make make) noexcept {
  try {
    return new at::Tensor(make());
  } catch (const std::exception& failure) {
    *error = strdup(failure.what());
  } catch (...) {
    *error = strdup("an unknown C++ exception");
  }
  return nullptr;
}
