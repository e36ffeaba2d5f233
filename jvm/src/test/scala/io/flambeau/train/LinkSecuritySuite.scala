// SPDX-License-Identifier: Apache-2.0
package io.flambeau.train

import org.scalatest.funsuite.AnyFunSuite

import io.flambeau.ConfigException

class LinkSecuritySuite extends AnyFunSuite {
  private def of(settings: (String, String)*): LinkSecurity = LinkSecurity.of(settings.toMap.get)

  test("auto follows Spark's own traffic") {
    assert(of() == LinkSecurity.Auth)
    assert(of("spark.network.crypto.enabled" -> "false") == LinkSecurity.Auth)
    Seq("spark.network.crypto.enabled", "spark.ssl.enabled", "spark.ssl.rpc.enabled").foreach { key =>
      assert(of(key -> "true") == LinkSecurity.Encrypt, key)
      assert(of(key -> "true", "spark.flambeau.security" -> "auto") == LinkSecurity.Encrypt, key)
      assert(of(key -> "true", "spark.flambeau.security" -> "auth") == LinkSecurity.Auth, key)
    }
    assert(of("spark.flambeau.security" -> "encrypt") == LinkSecurity.Encrypt)
  }

  test("off takes a second key, and another name is refused with those there are") {
    val off = "spark.flambeau.security" -> "off"
    assert(of(off, "spark.flambeau.allowInsecure" -> "true") == LinkSecurity.Off)
    val refused = intercept[ConfigException](of(off))
    assert(refused.getMessage.contains("spark.flambeau.allowInsecure"))
    val unknown = intercept[ConfigException](of("spark.flambeau.security" -> "tls"))
    assert(unknown.getMessage == "spark.flambeau.security is 'tls': it must be auto, auth, encrypt or off")
  }
}
