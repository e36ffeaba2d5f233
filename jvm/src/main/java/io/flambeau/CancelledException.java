// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** The session was cancelled while the call ran. */
public final class CancelledException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public CancelledException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public CancelledException(String message, Throwable cause) {
    super(message, cause);
  }

  /** Yes: whoever ended the task decides what becomes of the job. */
  @Override
  public boolean isRetryable() {
    return true;
  }
}
