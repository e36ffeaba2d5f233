// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** A file could not be read or written; Spark retries the stage. */
public final class StorageException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public StorageException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public StorageException(String message, Throwable cause) {
    super(message, cause);
  }

  /** Yes: another executor, or later, there may be space. */
  @Override
  public boolean isRetryable() {
    return true;
  }
}
