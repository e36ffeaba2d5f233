// SPDX-License-Identifier: Apache-2.0
package io.flambeau;

/** Any failure of Flambeau; its subclasses say what the caller can do next. */
public class FlambeauException extends RuntimeException {
  private static final long serialVersionUID = 1L;
  private static final int NO_RANK = -1;

  private int rank = NO_RANK;
  private String group = "";
  private String source = "";
  private String fromSpark = "";

  /** A failure described by {@code message}. */
  public FlambeauException(String message) {
    super(message);
  }

  /** A failure described by {@code message}, following from {@code cause}. */
  public FlambeauException(String message, Throwable cause) {
    super(message, cause);
  }

  /**
   * Whether a new attempt on the same rows may succeed, so that Spark is left to make one. Everything
   * that decides about retries asks this.
   */
  public boolean isRetryable() {
    return false;
  }

  /** Records the rank it happened on; the message then starts with it. */
  public final FlambeauException onRank(int rank) {
    this.rank = rank;
    return this;
  }

  /** Records of which of many models it is; the message then starts with it. */
  public final FlambeauException inGroup(String group) {
    this.group = group;
    return this;
  }

  /** Records what Spark knows of its own about the end of a rank; the message then ends with it. */
  public final FlambeauException withWordsOfSpark(String words) {
    this.fromSpark = words;
    return this;
  }

  /** Records what the rows at fault were read from; the message then ends with it. */
  public final FlambeauException readFrom(String source) {
    this.source = source;
    return this;
  }

  @Override
  public final String getMessage() {
    String where = (group.isEmpty() ? "" : group + ": ") + (rank == NO_RANK ? "" : "rank " + rank + ": ");
    String rows = source.isEmpty() ? "" : " (rows of " + source + ")";
    return where + super.getMessage() + rows + (fromSpark.isEmpty() ? "" : ". Spark says: " + fromSpark);
  }

}
