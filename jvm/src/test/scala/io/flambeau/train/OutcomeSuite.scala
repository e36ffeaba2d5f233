// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.scalatest.funsuite.AnyFunSuite

import io.flambeau._

class OutcomeSuite extends AnyFunSuite {
  private val result = FitResult(Array[Byte](1), Map("loss" -> Array(0.5)))

  test("rank 0's result is the fit's") {
    assert(Outcome.resultOf(Seq(Followed, Trained(result))) eq result)
  }

  test("the original failure wins over those that follow from it, and names its rank") {
    val error = intercept[DataException](Outcome.resultOf(Seq(
      Failed(0, new PeerFailedException("rank 2: column 'c' has nulls")),
      Failed(1, new CollectiveException("rank 2 is lost")),
      Failed(2, new DataException("column 'c' has nulls")))))
    assert(error.getMessage == "rank 2: column 'c' has nulls")
  }

  test("an exception says by itself whether a retry may help") {
    val retryable = Seq(new CollectiveException("lost"), new StorageException("full"), new CancelledException("killed"))
    val final_ = Seq(
      new ConfigException("c"), new DataException("d"), new NumericException("n"), new PeerFailedException("p"),
      new MemoryException("m"), new NativeLoadException("l"), new NativePanicException("bug"), new FlambeauException("libtorch refused"))
    assert(retryable.forall(_.isRetryable))
    assert(!final_.exists(_.isRetryable))
  }

  test("outcomes cross as bytes: results to the bit, exceptions with class, message and stack") {
    val history = Map("loss" -> Array(0.1, Double.NaN, Double.PositiveInfinity), "accuracy" -> Array.empty[Double])
    val failure = new DataException("column 'ä' has nulls").readFrom("part-1.parquet")
    val outcomes = Seq(Trained(FitResult(Array[Byte](1, -2), history)), Followed, Failed(3, failure))
    val joined = OutcomeBytes.join(outcomes.iterator.map(OutcomeBytes.encode))
    val back = OutcomeBytes.split(joined)
    assert(back.length == 3 && back(1) == Followed)
    val Trained(FitResult(model, metrics)) = back.head: @unchecked
    assert(model.toSeq == Seq[Byte](1, -2))
    assert(metrics.keys.toSeq == Seq("loss", "accuracy"))
    assert(metrics("loss").map(java.lang.Double.doubleToRawLongBits).toSeq == history("loss").map(java.lang.Double.doubleToRawLongBits).toSeq)
    val Failed(rank, error) = back(2): @unchecked
    assert(rank == 3 && error.getClass == classOf[DataException] && error.getMessage == failure.getMessage)
    def lines(of: Throwable) = of.getStackTrace.toSeq.map(frame => (frame.getClassName, frame.getMethodName, frame.getLineNumber))
    assert(lines(error) == lines(failure))
    assert(OutcomeBytes.split(OutcomeBytes.join(Iterator.empty)).isEmpty)
  }
}
