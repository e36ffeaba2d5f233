// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** The loss became NaN or infinite; nothing was saved after the last good checkpoint. */
public final class NumericException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public NumericException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public NumericException(String message, Throwable cause) {
    super(message, cause);
  }
}
