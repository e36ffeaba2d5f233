// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** libtorch or libflambeau.so could not be loaded; the message says where it looked and the fix. */
public final class NativeLoadException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public NativeLoadException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public NativeLoadException(String message, Throwable cause) {
    super(message, cause);
  }
}
