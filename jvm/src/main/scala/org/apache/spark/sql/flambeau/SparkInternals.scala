// SPDX-License-Identifier: Apache-2.0
package org.apache.spark.sql.flambeau

import java.nio.charset.StandardCharsets.UTF_8
import java.nio.file.Path

import scala.annotation.tailrec

import org.apache.hadoop.conf.Configuration
import org.apache.spark.{NarrowDependency, SparkContext, SparkEnv}
import org.apache.spark.rdd.{InputFileBlockHolder, RDD}
import org.apache.spark.sql.{DataFrame, SparkSession}
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{BoundReference, UnsafeProjection}
import org.apache.spark.sql.classic
import org.apache.spark.sql.types.StructType
import org.apache.spark.unsafe.types.UTF8String
import org.apache.spark.util.Utils

/** What Flambeau needs of Spark beyond its public API, all in this package. */
object SparkInternals {

  /** Tasks that can run at once on the executors registered now. */
  def slots(sc: SparkContext): Int =
    sc.maxNumConcurrentTasks(sc.resourceProfileManager.defaultResourceProfile)

  /** A new folder under `spark.local.dir`, deleted when the JVM ends at the latest. */
  def createLocalDir(): Path = Utils.createTempDir(localRoot.toString, "flambeau").toPath

  /** Where this process may keep scratch files: the first local directory that Spark itself could use. */
  def localRoot: Path = SparkEnv.get.blockManager.diskBlockManager.localDirs.head.toPath.getParent

  /** The host that Spark knows this process by, and those of all other executors. */
  def executorHosts: Seq[String] = {
    val manager = SparkEnv.get.blockManager
    val own = manager.blockManagerId
    (own +: manager.master.getPeers(own)).map(_.host).distinct
  }

  /** What Spark's processes of this application prove themselves with, where `spark.authenticate` is on. */
  def applicationSecret: Option[Array[Byte]] = {
    val security = SparkEnv.get.securityManager
    Option.when(security.isAuthenticationEnabled())(security.getSecretKey().getBytes(UTF_8))
  }

  /** The file of the row that this thread has read last; empty where rows come from elsewhere. */
  def inputFile: UTF8String = InputFileBlockHolder.getInputFilePath

  def deleteLocalDir(folder: Path): Unit = Utils.deleteRecursively(folder.toFile)

  /** Hadoop's settings for a file source with `options`, which may add some. */
  def hadoopConf(spark: SparkSession, options: Map[String, String]): Configuration =
    spark.asInstanceOf[classic.SparkSession].sessionState.newHadoopConfWithOptions(options)

  /** The rows as Spark holds them, to be fed; a row is valid until the iterator moves on. */
  def rows(data: DataFrame): RDD[InternalRow] = {
    val frame = classicOf(data)
    classic.Dataset.ofRows(frame.sparkSession, FedRows.of(frame)).queryExecution.toRdd
  }

  /** Rows of `schema` as a frame; what they come from is not planned again. */
  def frame(spark: SparkSession, rows: RDD[InternalRow], schema: StructType): DataFrame =
    spark.asInstanceOf[classic.SparkSession].internalCreateDataFrame(rows, schema)

  /**
   * Whether a barrier stage may run on `rdd` as it is: Spark refuses one that contains an RDD of
   * another number of partitions (coalesce, union, limit).
   */
  def fitsBarrierStage(rdd: RDD[_], tasks: Int): Boolean = {
    @tailrec def fits(open: List[RDD[_]]): Boolean = open match {
      case Nil => true
      case head :: _ if head.getNumPartitions != tasks => false
      case head :: rest =>
        val sameStage = head.dependencies.collect { case narrow: NarrowDependency[_] => narrow.rdd }
        fits(sameStage.toList ++ rest)
    }
    fits(List(rdd))
  }

  /** Picks `columns` of rows of `schema`; the row it gives is reused. */
  def projection(schema: StructType, columns: Seq[String]): InternalRow => InternalRow = {
    val references = columns.map { name =>
      val field = schema(name)
      BoundReference(schema.fieldIndex(name), field.dataType, field.nullable)
    }
    UnsafeProjection.create(references)
  }

  private[flambeau] def classicOf(data: DataFrame): classic.DataFrame = data match {
    case frame: classic.Dataset[_] => frame.toDF()
    case other =>
      throw new UnsupportedOperationException(
        s"Flambeau needs a DataFrame of the driver's own session, not ${other.getClass.getName} (Spark Connect)")
  }
}
