//! Keras's classes by family and name: the one list that says what a model may be made of.

use serde_json::{Map, Value as Json};

use crate::arguments::Args;
use crate::config::Options;
use crate::dtype::Policy;
use crate::error::{Error, Result};
use crate::graph;
use crate::layer::Built;
use crate::layers;
use crate::ops;
use crate::regularizers::Regularizer;
use crate::scope::{Place, Scope};
use crate::spec::Spec;

/// Makes a layer or operation from its config and the specs of its first call.
pub(crate) type Builder = fn(&mut Scope<'_>) -> Result<Built>;

/// What a class belongs to; with the class's name it is the key of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// `keras.layers`, and the layers of `keras.applications`.
    Layers,
    /// `keras.ops`.
    Ops,
    /// Sequential and Functional models.
    Models,
}

impl Family {
    /// By the module that Keras writes; Keras 2 wrote none.
    fn of(module: Option<&str>, class: &str) -> Option<Self> {
        let models = ["Sequential", "Functional", "Model"];
        match module {
            None if models.contains(&class) => Some(Self::Models),
            None => Some(Self::Layers),
            Some(module) => {
                let module = module.strip_prefix("tf_").unwrap_or(module);
                let module = module.strip_prefix("tensorflow.python.").unwrap_or(module);
                match module.split('.').collect::<Vec<_>>().as_slice() {
                    ["keras"] | ["keras", "models" | "engine", ..] => Some(Self::Models),
                    ["keras", "src", "models" | "engine", ..] => Some(Self::Models),
                    ["keras", "layers", ..] | ["keras", "src", "layers", ..] => Some(Self::Layers),
                    ["keras", "src", "applications", ..] => Some(Self::Layers),
                    ["keras", "ops", ..] | ["keras", "src", "ops", ..] => Some(Self::Ops),
                    _ => None,
                }
            }
        }
    }
}

/// A layer, operation or model as a config names it.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: String,
    pub(crate) family: Family,
    pub(crate) class: String,
    pub(crate) config: Map<String, Json>,
    /// The only dtypes that its tensors may have, if it stands for a function of TensorFlow that
    /// does something else with others.
    dtypes: Option<Vec<String>>,
}

impl Entry {
    /// Reads `{"module", "class_name", "config", "registered_name"}`.
    ///
    /// # Errors
    /// A part is missing, or the class is a custom one.
    pub(crate) fn read(entry: &Json) -> Result<Self> {
        let class = entry["class_name"].as_str();
        let name = entry
            .pointer("/config/name")
            .or_else(|| entry.get("name"))
            .and_then(Json::as_str);
        let (Some(class), Some(config)) = (class, entry["config"].as_object()) else {
            return Err(Error::InvalidConfig {
                place: "model".to_owned(),
                reason: format!(
                    "a layer lacks class_name or config: {}",
                    shortened(&entry.to_string())
                ),
            });
        };
        let name = name.unwrap_or(class).to_owned();
        let custom = entry
            .get("registered_name")
            .and_then(Json::as_str)
            .filter(|registered| registered.contains('>'));
        let module = entry.get("module").filter(|module| !module.is_null());
        let family = Family::of(module.and_then(Json::as_str), class);
        let (Some(family), None) = (family, custom) else {
            let module = module.map_or_else(|| "null".to_owned(), Json::to_string);
            return Err(Error::Unsupported {
                place: format!("layer \"{name}\" ({class})"),
                what: match custom {
                    Some(custom) => format!("the custom class {custom}"),
                    None => format!("a class of module {module}"),
                },
                supported: "the layers, models and operations of Keras itself".to_owned(),
            });
        };
        Ok(Self {
            name,
            family,
            class: match family {
                Family::Layers => layers::canonical(class),
                Family::Ops | Family::Models => class,
            }
            .to_owned(),
            config: config.clone(),
            dtypes: entry["input_dtypes"].as_array().map(|names| {
                let names = names.iter().filter_map(Json::as_str);
                names.map(str::to_owned).collect()
            }),
        })
    }

    /// What errors call it.
    pub(crate) fn place(&self) -> String {
        let kind = match self.family {
            Family::Layers => "layer",
            Family::Ops => "operation",
            Family::Models => "model",
        };
        format!("{kind} \"{}\" ({})", self.name, self.class)
    }
}

fn find(entry: &Entry) -> Option<Builder> {
    let lists = match entry.family {
        Family::Layers => layers::FAMILIES,
        Family::Ops => ops::FAMILIES,
        Family::Models => return Some(graph::build_nested),
    };
    let mut known = lists.iter().flat_map(|list| list.iter());
    let found = known.find(|(class, _)| *class == entry.class);
    found.map(|(_, builder)| *builder)
}

/// Every class of `family`, in the registry's order.
pub fn classes(family: &str) -> Vec<&'static str> {
    let lists = match family {
        "ops" => ops::FAMILIES,
        _ => layers::FAMILIES,
    };
    let all = lists.iter().flat_map(|list| list.iter());
    all.map(|(class, _)| *class).collect()
}

/// Builds what `entry` names for a call with arguments of the specs `args`, declaring its
/// variables at `place`.
///
/// # Errors
/// The class or an option is unknown, a value is wrong, or the inputs do not fit; named.
pub(crate) fn build(entry: &Entry, args: &Args<Spec>, mut place: Place<'_>) -> Result<Built> {
    let Some(builder) = find(entry) else {
        let family = if entry.family == Family::Ops {
            "ops"
        } else {
            "layers"
        };
        return Err(Error::Unsupported {
            place: entry.place(),
            what: "this class".to_owned(),
            supported: classes(family).join(", "),
        });
    };
    if let Some(dtypes) = &entry.dtypes {
        let wrong = |spec: &&&Spec| !dtypes.iter().any(|name| name == spec.dtype.name());
        if let Some(spec) = args.leaves().iter().find(wrong) {
            return Err(Error::Unsupported {
                place: entry.place(),
                what: format!(
                    "a tensor of {} where TensorFlow and Keras differ",
                    spec.dtype
                ),
                supported: dtypes.join(", "),
            });
        }
    }
    let options = Options::new(entry.place(), &entry.config);
    options.ignore(&["name"]);
    let policy = match entry.family {
        Family::Layers => Policy::read(&options)?,
        // An operation computes in its inputs' dtype; its own `dtype`, if any, is an argument.
        Family::Ops | Family::Models => Policy {
            compute: crate::dtype::DType::String,
            variable: crate::dtype::DType::FLOAT32,
        },
    };
    if entry.family != Family::Ops {
        place.trainable &= options.bool("trainable", true)?;
    }
    let mut scope = Scope {
        class: &entry.class,
        options: &options,
        args,
        place,
        policy,
        count: 0,
    };
    let built = builder(&mut scope).map_err(|error| error.of_config(options.place()))?;
    let activity = match options.value("activity_regularizer") {
        Some(value) => {
            let place = format!("{}, activity_regularizer", options.place());
            Regularizer::from_config(value, &place)?
        }
        None => None,
    };
    options.finish()?;
    Ok(Built {
        policy,
        activity: built.activity.or(activity),
        ..built
    })
}

/// The beginning of a long text, for messages.
pub(crate) fn shortened(text: &str) -> String {
    const LIMIT: usize = 200;
    match text.char_indices().nth(LIMIT) {
        Some((at, _)) => format!("{}...", &text[..at]),
        None => text.to_owned(),
    }
}
