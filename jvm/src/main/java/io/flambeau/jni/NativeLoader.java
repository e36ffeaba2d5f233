// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni;

import io.flambeau.NativeLoadException;
import java.io.IOException;
import java.io.InputStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.PosixFilePermissions;
import java.util.Properties;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/**
 * Loads libtorch and libflambeau.so, once per class loader: libtorch's parts by absolute path in
 * the order they need each other, then a private copy of the library in the jar, since a JVM loads
 * one file for one class loader only. After a failure the next call tries again: what was missing
 * may have been installed.
 */
public final class NativeLoader {
  private static final String LIBRARY = "/io/flambeau/native/linux-x86_64/libflambeau.so";
  private static final String BUILD = "/flambeau-build.properties";

  private static String version;

  private NativeLoader() {}

  /**
   * Loads the library unless it is loaded.
   *
   * @return what {@link Native#version()} says
   * @throws NativeLoadException if a part is missing, does not load, or is of another build
   */
  public static synchronized String load(NativeSettings settings) {
    if (version == null) {
      version = loadOnce(settings);
    }
    return version;
  }

  private static String loadOnce(NativeSettings settings) {
    if (NativeLoader.class.getResource(LIBRARY) == null) {
      throw new NativeLoadException(
          "this jar carries no " + LIBRARY + ": build the native library first, then package the jar again"
              + " (platform " + System.getProperty("os.name") + "/" + System.getProperty("os.arch")
              + ", built for Linux/amd64)");
    }
    for (Path library : new LibtorchSearch().libraries(settings)) {
      loadShared(library);
    }
    loadPrivateCopy(settings.scratch());
    String found = Native.version();
    checkBuild(found);
    endWithJvm();
    return found;
  }

  /** libtorch may serve several class loaders: once mapped, its symbols are found by name. */
  private static void loadShared(Path library) {
    try {
      System.load(library.toString());
    } catch (UnsatisfiedLinkError error) {
      if (!String.valueOf(error.getMessage()).contains("already loaded in another classloader")) {
        throw new NativeLoadException(
            "cannot load " + library + ": " + error.getMessage()
                + "\nFix: point spark.flambeau.libtorch to an intact libtorch " + LibtorchSearch.VERSION + " for this platform",
            error);
      }
    }
  }

  private static void loadPrivateCopy(Path scratch) {
    try {
      var ownerOnly = PosixFilePermissions.asFileAttribute(PosixFilePermissions.fromString("rwx------"));
      Path folder = Files.createTempDirectory(scratch, "flambeau-native-", ownerOnly);
      Path copy = folder.resolve("libflambeau.so");
      try (InputStream resource = NativeLoader.class.getResourceAsStream(LIBRARY)) {
        Files.copy(resource, copy);
        System.load(copy.toString());
      } finally {
        Files.deleteIfExists(copy);
        Files.deleteIfExists(folder);
      }
    } catch (IOException error) {
      throw new NativeLoadException(
          "cannot unpack libflambeau.so under " + scratch + ": " + error
              + "\nFix: free space there, or name another folder with spark.local.dir",
          error);
    } catch (UnsatisfiedLinkError error) {
      throw new NativeLoadException(
          "cannot load libflambeau.so unpacked under " + scratch + ": " + error.getMessage()
              + "\nFix: the folder must allow execution (no noexec mount; spark.local.dir names another),"
              + " and libtorch must be " + LibtorchSearch.VERSION,
          error);
    }
  }

  /** A JVM that ends under a native thread crashes. */
  private static void endWithJvm() {
    try {
      Runtime.getRuntime().addShutdownHook(new Thread(Native::shutDown, "flambeau-shutdown"));
    } catch (IllegalStateException ending) {
      throw new NativeLoadException("this JVM is ending", ending);
    }
  }

  private static void checkBuild(String found) {
    Properties expected = new Properties();
    try (InputStream resource = NativeLoader.class.getResourceAsStream(BUILD)) {
      expected.load(resource);
    } catch (IOException error) {
      throw new NativeLoadException("cannot read " + BUILD + " of the Flambeau jar", error);
    }
    for (String key : new String[] {"version", "build"}) {
      String wanted = expected.getProperty(key);
      String got = field(found, key);
      if (!wanted.equals(got)) {
        throw new NativeLoadException(
            "libflambeau.so is not of this jar's " + key + ": the jar has " + wanted + ", the library " + got
                + "\nFix: build the library and the jar from the same sources");
      }
    }
  }

  /** One string of a flat JSON object; a parser would be a dependency for two fields. */
  private static String field(String json, String key) {
    Matcher matcher = Pattern.compile("\"" + key + "\"\\s*:\\s*\"([^\"]*)\"").matcher(json);
    return matcher.find() ? matcher.group(1) : "unknown";
  }
}
