// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** A peer was lost or did not answer in time; Spark retries the stage. */
public final class CollectiveException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public CollectiveException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public CollectiveException(String message, Throwable cause) {
    super(message, cause);
  }

  /** Yes: the rank may be there again. */
  @Override
  public boolean isRetryable() {
    return true;
  }
}
