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

  test("only what a retry cannot mend becomes a value") {
    assert(Outcome.isDeterministic(new NumericException("NaN")))
    assert(!Outcome.isDeterministic(new CollectiveException("lost")))
    assert(!Outcome.isDeterministic(new StorageException("full")))
  }
}
