// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** The data does not fit: a missing column, a wrong type, a null, a label out of range, no rows. */
public final class DataException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public DataException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public DataException(String message, Throwable cause) {
    super(message, cause);
  }
}
