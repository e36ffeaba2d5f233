// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.json4s.JObject
import org.json4s.jackson.JsonMethods.parse
import org.scalatest.funsuite.AnyFunSuite

class ProgressPrinterSuite extends AnyFunSuite {
  private def line(json: String): String = ProgressPrinter.line(parse(json).asInstanceOf[JObject])

  test("a step shows its logs, the speed and the time left") {
    assert(line(
      """{"event":"step","epoch":1,"epochs":3,"step":120,"steps":null,"logs":{"loss":0.41234,"accuracy":0.85119},
        |"rows_per_second":15120.4,"seconds_left":12.3}""".stripMargin) ==
      "epoch 1/3 step 120 loss 0.4123 accuracy 0.8512 15,120 rows/s 0:12 left")
  }

  test("a known number of steps is shown, an unknown time left is not") {
    assert(line(
      """{"event":"step","epoch":2,"epochs":3,"step":9,"steps":469,"logs":{"loss":1},
        |"rows_per_second":80.0,"seconds_left":null}""".stripMargin) ==
      "epoch 2/3 step 9/469 loss 1.0000 80 rows/s")
  }

  test("how stale the weights of updates were is shown in order") {
    assert(line(""" {"event":"staleness","updates":{"10":10,"2":30,"0":160}} """) ==
      "updates by staleness: 0: 80.0 %, 2: 15.0 %, 10: 5.0 %")
  }

  test("an epoch shows how long it took, and validation") {
    assert(line(
      """{"event":"epoch","epoch":1,"epochs":3,"step":469,"logs":{"loss":0.5,"val_loss":0.25},
        |"rows":60000,"seconds":4.12}""".stripMargin) == "epoch 1/3 done in 4.1 s loss 0.5000 val_loss 0.2500")
  }

  test("what an evaluator has measured is shown with its epoch") {
    assert(line("""{"event":"evaluated","epoch":3,"step":9,"logs":{"val_loss":0.31214,"val_accuracy":0.5}}""") ==
      "evaluator: epoch 3 val_loss 0.3121 val_accuracy 0.5000")
  }
}
