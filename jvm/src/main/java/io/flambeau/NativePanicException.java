// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** A bug in Flambeau's native code; the session is lost, the JVM is not. */
public final class NativePanicException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public NativePanicException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public NativePanicException(String message, Throwable cause) {
    super(message, cause);
  }
}
