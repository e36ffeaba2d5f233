//! The columns that feed one input or output, found in a schema.

use crate::decode::{
    ACCEPTED, Column, ColumnKind, NUMBERS, STRINGS, Stack, Stacks, is_narrow, stacked,
};
use crate::error::DataError;
use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, Schema};

/// What a record batch has.
pub(super) struct Sources<'a> {
    schema: &'a Schema,
    stacks: Stacks,
}

/// A column, or several that arrive as one.
#[derive(Debug)]
pub(super) struct Source {
    /// Of the first, where several columns arrive as one.
    pub(super) name: String,
    index: usize,
    pub(super) kind: ColumnKind,
    /// Whether its whole numbers fit an i32.
    pub(super) narrow: bool,
    stack: Option<Stack>,
}

/// Which columns an input or output takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Takes {
    Strings,
    Numbers,
    /// Numbers, or images, whose pixels are numbers.
    NumbersOrImages,
}

impl<'a> Sources<'a> {
    pub(super) fn new(schema: &'a Schema) -> Self {
        Self {
            schema,
            stacks: Stacks::of(schema),
        }
    }

    /// Finds columns of the right kind; those that follow each other in a stack are one source.
    ///
    /// # Errors
    /// [`DataError::NoColumn`] and [`DataError::Type`].
    pub(super) fn find(&self, names: &[String], takes: Takes) -> Result<Vec<Source>, DataError> {
        let sources = names.iter().map(|name| {
            let source = self.one(name)?;
            let text = matches!(source.kind, ColumnKind::Text | ColumnKind::Texts);
            let fits = match takes {
                Takes::Strings => text || source.kind == ColumnKind::Binary,
                Takes::Numbers => !text && source.kind != ColumnKind::Image,
                Takes::NumbersOrImages => !text,
            };
            match (fits, takes) {
                (true, _) => Ok(source),
                (false, Takes::Strings) => Err(self.wrong_type(&source, STRINGS)),
                (false, _) => Err(self.wrong_type(&source, NUMBERS)),
            }
        });
        let sources = sources.collect::<Result<Vec<_>, DataError>>()?;
        Ok(joined(sources))
    }

    /// Finds one column of any kind.
    ///
    /// # Errors
    /// [`DataError::NoColumn`] and [`DataError::Type`].
    pub(super) fn one(&self, name: &str) -> Result<Source, DataError> {
        let (index, stack) = match (self.stacks.find(name), self.schema.column_with_name(name)) {
            (Some((index, stack)), _) => (index, Some(stack)),
            (None, Some((index, _))) => (index, None),
            (None, None) => {
                return Err(DataError::NoColumn {
                    column: name.to_owned(),
                    available: names(self.schema),
                });
            }
        };
        let field = self.schema.field(index);
        let kind = ColumnKind::of(field.data_type()).ok_or_else(|| DataError::Type {
            column: name.to_owned(),
            dtype: field.data_type().to_string(),
            accepted: ACCEPTED,
        })?;
        Ok(Source {
            name: name.to_owned(),
            index,
            kind,
            narrow: is_narrow(field.data_type()),
            stack,
        })
    }

    pub(super) fn wrong_type(&self, source: &Source, accepted: &'static str) -> DataError {
        DataError::Type {
            column: source.name.clone(),
            dtype: dtype_of(self.schema.field(source.index)).to_string(),
            accepted,
        }
    }
}

/// How many values the columns hold in a row, if each holds one.
pub(super) fn scalars(sources: &[Source]) -> Option<usize> {
    let values = sources.iter().map(|source| match source.kind {
        ColumnKind::Scalar | ColumnKind::Text | ColumnKind::Stack => Some(source.names().count()),
        _ => None,
    });
    values.sum()
}

impl Source {
    /// Whether rows may hold any number of values; a string is one value of an input of strings.
    pub(super) fn is_sequence(&self, strings: bool) -> bool {
        match self.kind {
            ColumnKind::List | ColumnKind::Texts => true,
            ColumnKind::Binary => !strings,
            _ => false,
        }
    }

    pub(super) fn column<'a>(&'a self, batch: &'a RecordBatch, first_row: u64) -> Column<'a> {
        Column {
            name: &self.name,
            array: batch.column(self.index),
            first_row,
            stack: self.stack.as_ref(),
        }
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        let names = self.stack.as_ref().map(Stack::names);
        names
            .unwrap_or(std::slice::from_ref(&self.name))
            .iter()
            .map(String::as_str)
    }
}

/// Makes one source of those that follow each other in one field.
fn joined(sources: Vec<Source>) -> Vec<Source> {
    let mut out: Vec<Source> = Vec::new();
    for mut source in sources {
        if let Some(last) = out.last_mut().filter(|last| last.index == source.index)
            && let (Some(stack), Some(next)) = (&mut last.stack, source.stack.take())
        {
            match stack.join(next) {
                Ok(()) => continue,
                Err(next) => source.stack = Some(next),
            }
        }
        out.push(source);
    }
    out
}

/// What a field's column is, or each of its columns.
fn dtype_of(field: &Field) -> &DataType {
    match field.data_type() {
        DataType::FixedSizeList(item, _) => item.data_type(),
        dtype => dtype,
    }
}

/// The columns of a schema, for messages.
pub(crate) fn names(schema: &Schema) -> String {
    let fields = schema.fields().iter();
    let names =
        fields.flat_map(|field| stacked(field).unwrap_or_else(|| vec![field.name().clone()]));
    let names: Vec<_> = names.collect();
    shortened(names.iter().map(String::as_str))
}

pub(super) fn shortened<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    match &names[..] {
        [first, second, .., last] if names.len() > 8 => {
            format!("{first}, {second}, .. {last} ({} columns)", names.len())
        }
        all => all.join(", "),
    }
}
