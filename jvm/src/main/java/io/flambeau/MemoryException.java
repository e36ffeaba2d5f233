// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** The memory of an executor or of its GPU ran out; the message says what to do. */
public final class MemoryException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public MemoryException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public MemoryException(String message, Throwable cause) {
    super(message, cause);
  }
}
