// What the other files share: see ffi.h.

#include <cstdlib>

extern "C" void flambeau_free(char* text) { std::free(text); }
