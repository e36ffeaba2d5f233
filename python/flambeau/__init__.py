"""Deep learning inside Spark executors: Keras models trained and applied on DataFrames.

`flambeau.ml` holds the estimator and the model; this module says where the jar is.
"""

from flambeau.jar import configure, jar_path

__version__ = "0.1.0"
__all__ = ["__version__", "configure", "jar_path"]
