// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** Another rank failed for good; the message names that rank and repeats its message. */
public final class PeerFailedException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public PeerFailedException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public PeerFailedException(String message, Throwable cause) {
    super(message, cause);
  }
}
