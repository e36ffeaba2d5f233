// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni;

/**
 * The door to libflambeau.so: primitives, strings and byte arrays only. A session is an id that is
 * never used twice; a closed or unknown id gives {@link IllegalStateException}. Load the library
 * with {@link NativeLoader} first.
 */
final class Native {
  private Native() {}

  /** {"version", "build", "libtorch"} as JSON. */
  static native String version();

  /**
   * Throws what {@link #open} would throw for this model and these columns, and opens nothing.
   *
   * @param config {"kind": "fit", "columns", "fit"}, or the document of a predict session
   * @param schema the Arrow schema message of the batches to come
   * @param model Keras JSON (UTF-8), .keras or .h5 bytes
   * @param weights the files of initial weights one after the other, or null
   */
  static native void check(String config, byte[] schema, byte[] model, byte[] weights);

  /**
   * Opens a session.
   *
   * @param config the session's JSON document
   * @param schema the Arrow schema message of its batches
   * @param model Keras JSON (UTF-8), .keras or .h5 bytes, null for kinds without a model
   * @param weights the files of a fit's initial weights one after the other, or null
   * @param secret 32 bytes that the ranks of one fit share, null for other kinds
   */
  static native long open(String config, byte[] schema, byte[] model, byte[] weights, byte[] secret);

  /**
   * Takes the rows of one record batch, whose memory it borrows for the length of the call.
   *
   * @param stream 0 for training rows, 1 for validation rows
   * @param nodes (length, null count) pairs in the order of the ArrowRecordBatch
   * @param buffers (address, byte length) pairs in the order of the ArrowRecordBatch
   * @return false if there was no room within about 100 ms: nothing was taken, call again
   */
  static native boolean feed(long session, int stream, int rows, long[] nodes, long[] buffers);

  /**
   * Ends a stream. That of training rows ends with each pass over them: the only one, unless the fit's
   * "reread" says that they are fed anew in each. That of validation rows ends once, with the first
   * pass at the latest.
   *
   * @param stream 0 for training rows, 1 for validation rows
   * @return false if there was no room within about 100 ms: nothing was ended, call again
   */
  static native boolean finish(long session, int stream);

  /**
   * Has an evaluator (a fit's "evaluator") measure a local checkpoint; {@link #poll} tells what came of it.
   * All rows to validate with must have come. The end of the stream of training rows ends it.
   */
  static native void evaluate(long session, String checkpoint);

  /** The next event as JSON, or null when none came in time. */
  static native String poll(long session, int timeoutMillis);

  /** The result of one batch: float32 rows (predict), TFRecords (encode), nothing (drain). */
  static native byte[] transform(long session, int rows, long[] nodes, long[] buffers);

  /**
   * Takes bytes of a file (decode, infer) and gives the next batch of its records. A decode session
   * reads from its split's start on, and beyond the split's end as long as it asks for more.
   *
   * @param length bytes to take of {@code bytes}; 0 for none, -1 if the file has ended
   * @return null when more bytes are needed; else {id, rows, records skipped so far, n, n pairs
   *     (length, null count), pairs (address, byte length)} in the order of an ArrowRecordBatch. An
   *     id of 0 says that the split has no more records, or that {@link #poll} has what was
   *     inferred. The memory is valid until {@link #release}.
   */
  static native long[] decode(long session, byte[] bytes, int length);

  /**
   * Gives the memory of a decoded batch back; from any thread, also after its session was closed;
   * again is harmless.
   */
  static native void release(long batch);

  /** Whether this process has kept the model that micro-batch {@code number} of a stream goes on from. */
  static native boolean holds(String stream, long number);

  /**
   * Whether the session has failed, so that its next call would throw; from any thread, and false once
   * it is closed.
   */
  static native boolean hasFailed(long session);

  /**
   * Lines that native code has logged since the last call, as a JSON array of {level, thread, message},
   * or null if there are none.
   *
   * @param debug whether lines of that level are kept from now on
   */
  static native String takeLog(boolean debug);

  /** Ends running calls within 2 s; may be called from any thread. */
  static native void cancel(long session);

  /** Frees the session and joins its threads; again is harmless. */
  static native void close(long session);

  /**
   * Ends all sessions, and refuses calls that compute from now on: for the end of the JVM, which must
   * not come while native threads use libtorch. Takes 2 s at most.
   */
  static native void shutDown();

  /** Sessions that are open in this process. */
  static native int liveSessions();

  /** Fails on purpose: "panic", "torch" or "config". */
  static native void fault(String kind);
}
