// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** The configuration or the model is wrong: correct it and run again; a retry cannot help. */
public final class ConfigException extends FlambeauException {
  private static final long serialVersionUID = 1L;

  /** A failure described by {@code message}. */
  public ConfigException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public ConfigException(String message, Throwable cause) {
    super(message, cause);
  }
}
