// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni;

import io.flambeau.NativeLoadException;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.InvalidPathException;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * Finds the folder that holds libtorch_cpu.so, and the libraries to load before Flambeau's own. A
 * folder that is known to be of another release is no candidate: it would crash the process.
 */
final class LibtorchSearch {
  static final String VERSION = "2.11.0";

  private static final String LIBTORCH_CPU = "libtorch_cpu.so";

  /** Load order; the runtime libraries in front are those the wheel may need, if it has them. */
  private static final List<String> OPTIONAL = List.of("libgomp.so.1", "libcudart.so.*", "libcupti.so.*");

  private static final List<String> REQUIRED = List.of("libc10.so", LIBTORCH_CPU);

  /** Finds torch without importing it, which would take seconds. */
  private static final String PYTHON_PROBE =
      "import importlib.util as u; s = u.find_spec('torch');"
          + " print(s.submodule_search_locations[0] if s else '')";

  private static final long PYTHON_TIMEOUT_SECONDS = 20;

  private final List<String> looked = new ArrayList<>();

  /** The libraries to load, in order. */
  List<Path> libraries(NativeSettings settings) {
    Path folder = folder(settings);
    List<Path> companions = new ArrayList<>(List.of(folder));
    companions.addAll(nvidiaFolders(folder));
    List<Path> libraries = new ArrayList<>();
    for (String pattern : OPTIONAL) {
      companions.stream().flatMap(dir -> matches(dir, pattern).stream()).findFirst().ifPresent(libraries::add);
    }
    REQUIRED.forEach(name -> libraries.add(folder.resolve(name)));
    return libraries;
  }

  private Path folder(NativeSettings settings) {
    if (settings.libtorch().isPresent()) {
      String named = settings.libtorch().get();
      return holding("spark.flambeau.libtorch=" + named, List.of(Path.of(named), Path.of(named, "lib")))
          .orElseThrow(this::notFound);
    }
    return archived(settings).or(() -> inPython(settings.python())).orElseThrow(this::notFound);
  }

  private Optional<Path> archived(NativeSettings settings) {
    for (Path root : settings.archiveRoots()) {
      List<Path> folders = new ArrayList<>(List.of(root.resolve("libtorch")));
      for (Path child : matches(root, "*")) {
        folders.add(child.resolve("lib"));
      }
      Optional<Path> found = holding("--archives under " + root, folders);
      if (found.isPresent()) {
        return found;
      }
    }
    return Optional.empty();
  }

  private Optional<Path> inPython(String python) {
    String source = "the torch package of " + python;
    try {
      Process process =
          new ProcessBuilder(python, "-c", PYTHON_PROBE).redirectError(ProcessBuilder.Redirect.DISCARD).start();
      if (!process.waitFor(PYTHON_TIMEOUT_SECONDS, TimeUnit.SECONDS)) {
        process.destroyForcibly();
        looked.add(source + ": no answer in " + PYTHON_TIMEOUT_SECONDS + " s");
        return Optional.empty();
      }
      String torch = new String(process.getInputStream().readAllBytes(), StandardCharsets.UTF_8).strip();
      if (process.exitValue() != 0 || torch.isEmpty()) {
        looked.add(source + ": not installed there");
        return Optional.empty();
      }
      return holding(source, List.of(Path.of(torch, "lib")));
    } catch (IOException error) {
      looked.add(source + ": " + error.getMessage());
      return Optional.empty();
    } catch (InterruptedException error) {
      Thread.currentThread().interrupt();
      throw new NativeLoadException("interrupted while looking for libtorch", error);
    }
  }

  private Optional<Path> holding(String source, List<Path> folders) {
    for (Path folder : folders) {
      if (Files.isReadable(folder.resolve(LIBTORCH_CPU))) {
        Optional<String> other = LibtorchVersion.of(folder).filter(version -> !version.equals(VERSION));
        if (other.isEmpty()) {
          return Optional.of(folder.toAbsolutePath());
        }
        looked.add(source + ": libtorch " + other.get() + ", not " + VERSION);
        return Optional.empty();
      }
    }
    looked.add(source + ": no readable " + LIBTORCH_CPU);
    return Optional.empty();
  }

  /** A torch wheel keeps the CUDA runtime beside itself: site-packages/nvidia/NAME/lib. */
  private static List<Path> nvidiaFolders(Path folder) {
    return matches(folder.resolve("../../nvidia").normalize(), "*").stream().map(dir -> dir.resolve("lib")).toList();
  }

  private static List<Path> matches(Path folder, String pattern) {
    List<Path> found = new ArrayList<>();
    try (DirectoryStream<Path> entries = Files.newDirectoryStream(folder, pattern)) {
      entries.forEach(found::add);
    } catch (IOException | InvalidPathException absent) {
      return List.of();
    }
    found.sort(null);
    return found;
  }

  private NativeLoadException notFound() {
    return new NativeLoadException(
        "libtorch " + VERSION + " was not found. Looked at:\n  - "
            + String.join("\n  - ", looked)
            + "\nFix: pip install torch==" + VERSION + " in the executors' Python, or set spark.flambeau.libtorch to a folder"
            + " that holds "
            + LIBTORCH_CPU
            + " on every node, or ship one with --archives libtorch.tgz#libtorch");
  }
}
