// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import org.apache.spark.sql.catalyst.InternalRow

import io.flambeau.SparkSuite

class SparkInternalsSuite extends SparkSuite {

  test("a projection picks columns by name, in the order asked for") {
    val schema = spark.range(1).selectExpr("1 as a", "2 as b", "3 as c").schema
    val picked = SparkInternals.projection(schema, Seq("c", "a"))(InternalRow(1, 2, 3))
    assert(picked.numFields == 2 && picked.getInt(0) == 3 && picked.getInt(1) == 1)
  }
}
