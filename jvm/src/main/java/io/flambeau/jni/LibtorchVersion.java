// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Optional;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** The release that a folder of libtorch's libraries belongs to, by the file beside it that says so. */
final class LibtorchVersion {
  /** The torch wheel's, from where libtorch_cpu.so really lies: torch/lib. */
  private static final String WHEEL = "version.py";

  /** That of pytorch.org's libtorch archives: one line, as 2.11.0+cpu. */
  private static final String ARCHIVE = "build-version";

  private static final Pattern WHEEL_VERSION = Pattern.compile("(?m)^__version__\\s*=\\s*['\"]([^'\"]+)");

  private LibtorchVersion() {}

  /** Without what follows a plus sign; empty if no file says it, as for libraries copied on their own. */
  static Optional<String> of(Path folder) {
    try {
      Path home = folder.resolve("libtorch_cpu.so").toRealPath().resolve("../..").normalize();
      Optional<String> version = Optional.empty();
      if (Files.isReadable(home.resolve(WHEEL))) {
        Matcher matcher = WHEEL_VERSION.matcher(Files.readString(home.resolve(WHEEL)));
        version = matcher.find() ? Optional.of(matcher.group(1)) : Optional.empty();
      } else if (Files.isReadable(home.resolve(ARCHIVE))) {
        version = Optional.of(Files.readString(home.resolve(ARCHIVE)).strip());
      }
      return version.map(full -> full.split("\\+", 2)[0]);
    } catch (IOException unreadable) {
      return Optional.empty();
    }
  }
}
