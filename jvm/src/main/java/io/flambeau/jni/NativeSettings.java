// SPDX-License-Identifier: Apache-2.0
package io.flambeau.jni;

import java.nio.file.Path;
import java.util.List;
import java.util.Optional;

/**
 * Where one process finds its native code.
 *
 * @param libtorch the folder the user named with {@code spark.flambeau.libtorch}
 * @param archiveRoots folders that {@code --archives} unpacks into
 * @param python the Python command whose torch package may serve
 * @param scratch where the library is unpacked; must allow execution
 */
public record NativeSettings(
    Optional<String> libtorch, List<Path> archiveRoots, String python, Path scratch) {}
