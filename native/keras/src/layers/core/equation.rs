//! The equation of an `EinsumDense`: which axes its input, kernel and output have.

use std::collections::BTreeSet;

/// An axis: a letter of the equation, or one of those that `...` stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Axis {
    Named(char),
    Elided(usize),
}

/// `input,kernel->output` for an input of known rank.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Equation {
    pub(super) input: Vec<Axis>,
    pub(super) kernel: Vec<Axis>,
    pub(super) output: Vec<Axis>,
    /// Whether `...` stands before the letters.
    elided_left: bool,
}

impl Equation {
    /// Reads `ab,bc->ac`, `...ab,bc->...ac` or `ab...,bc->ac...` for an input of `rank` axes.
    ///
    /// # Errors
    /// It is of another form, its letters do not fit together, or the input has other axes.
    pub(super) fn read(text: &str, rank: usize) -> Result<Self, String> {
        let form = || {
            format!(
                "equation = \"{text}\" must be of the form \"X,Y->Z\", \"...X,Y->...Z\" or \
                 \"X...,Y->Z...\", with no letter twice in X, Y or Z"
            )
        };
        let parts = text.split_once("->").and_then(|(operands, output)| {
            let (input, kernel) = operands.split_once(',')?;
            Some((input, kernel, output))
        });
        let (input, kernel, output) = parts.ok_or_else(form)?;
        let left = input.strip_prefix("...").zip(output.strip_prefix("..."));
        let right = input.strip_suffix("...").zip(output.strip_suffix("..."));
        let (input, output) = left.or(right).unwrap_or((input, output));
        let letters = |part| letters(part).ok_or_else(form);
        let (input, kernel, output) = (letters(input)?, letters(kernel)?, letters(output)?);
        let elided = rank.checked_sub(input.len());
        let elided = elided.filter(|&n| n == 0 || left.is_some() || right.is_some());
        let Some(elided) = elided else {
            return Err(format!(
                "equation = \"{text}\" does not fit an input of {rank} axes"
            ));
        };
        let elided = (0..elided).map(Axis::Elided);
        let with_elided = |named: Vec<Axis>| match left {
            Some(_) => elided.clone().chain(named).collect(),
            None => named.into_iter().chain(elided.clone()).collect(),
        };
        let equation = Self {
            input: with_elided(input),
            kernel,
            output: with_elided(output),
            elided_left: left.is_some(),
        };
        equation.check(text)?;
        Ok(equation)
    }

    fn check(&self, text: &str) -> Result<(), String> {
        let alone = |axes: &[Axis], others: [&[Axis]; 2]| {
            let mut axes = axes.iter();
            axes.find_map(|axis| match axis {
                Axis::Named(letter) if others.iter().all(|other| !other.contains(axis)) => {
                    Some(*letter)
                }
                _ => None,
            })
        };
        if let Some(letter) = alone(&self.kernel, [&self.input, &self.output]) {
            return Err(format!(
                "equation = \"{text}\": the kernel's '{letter}' is neither in the input nor in \
                 the output"
            ));
        }
        if let Some(letter) = alone(&self.output, [&self.input, &self.kernel]) {
            return Err(format!(
                "equation = \"{text}\": the output's '{letter}' is neither in the input nor in \
                 the kernel"
            ));
        }
        Ok(())
    }

    /// The sizes of the output's named axes: from the option `output_shape`, which leaves out the
    /// batch, where it says one, else from the input.
    ///
    /// # Errors
    /// `output_shape` has another number of axes.
    pub(super) fn output_sizes(
        &self,
        input: &[Option<i64>],
        output_shape: &[Option<i64>],
    ) -> Result<Vec<(Axis, Option<i64>)>, String> {
        let named = self
            .output
            .iter()
            .filter(|axis| matches!(axis, Axis::Named(_)));
        let named: Vec<Axis> = named.copied().collect();
        // With axes elided before the letters the batch is one of them, else the first letter.
        let elided = self.output.len() - named.len();
        let batch = usize::from(!self.elided_left || elided == 0);
        if output_shape.len() + batch != named.len() {
            let (given, wanted) = (output_shape.len(), named.len() - batch);
            return Err(format!(
                "output_shape has {given} axes, the equation asks for {wanted}"
            ));
        }
        let sizes = named.into_iter().enumerate().map(|(at, axis)| {
            let given = at.checked_sub(batch).and_then(|at| output_shape[at]);
            (axis, given.or_else(|| self.input_size(axis, input)))
        });
        Ok(sizes.collect())
    }

    /// The size of `axis` in an input.
    pub(super) fn input_size(&self, axis: Axis, input: &[Option<i64>]) -> Option<i64> {
        let at = self.input.iter().position(|other| *other == axis)?;
        input.get(at).copied().flatten()
    }

    /// The bias's axes for `bias_axes`: of the output from the first of them on, those that are
    /// not among them with size 1 (`None`).
    ///
    /// # Errors
    /// A letter is not in the output.
    pub(super) fn bias_axes(&self, bias_axes: &str) -> Result<Vec<Option<Axis>>, String> {
        let letters = letters(bias_axes).filter(|letters| !letters.is_empty());
        let letters = letters.ok_or_else(|| {
            format!("bias_axes = \"{bias_axes}\" must be letters of the output, each once")
        })?;
        if let Some(missing) = letters.iter().find(|axis| !self.output.contains(axis)) {
            return Err(format!(
                "bias_axes names {missing:?}, which the output does not have"
            ));
        }
        let axes = self
            .output
            .iter()
            .skip_while(|axis| !letters.contains(axis));
        Ok(axes
            .map(|axis| letters.contains(axis).then_some(*axis))
            .collect())
    }

    /// The equation with a letter for each axis, as libtorch's `einsum` takes it; `None` if there
    /// are not enough letters.
    pub(super) fn spelled(&self) -> Option<String> {
        let all = [&self.input, &self.kernel, &self.output];
        let used: BTreeSet<char> = all
            .into_iter()
            .flatten()
            .filter_map(|axis| match axis {
                Axis::Named(letter) => Some(*letter),
                Axis::Elided(_) => None,
            })
            .collect();
        let free: Vec<char> = ('a'..='z')
            .chain('A'..='Z')
            .filter(|letter| !used.contains(letter))
            .collect();
        let spell = |axes: &[Axis]| {
            let letters = axes.iter().map(|axis| match axis {
                Axis::Named(letter) => Some(*letter),
                Axis::Elided(at) => free.get(*at).copied(),
            });
            letters.collect::<Option<String>>()
        };
        let (input, kernel) = (spell(&self.input)?, spell(&self.kernel)?);
        Some(format!("{input},{kernel}->{}", spell(&self.output)?))
    }
}

/// The letters of one operand; `None` if there is anything else, or one twice.
fn letters(part: &str) -> Option<Vec<Axis>> {
    let once = part.chars().collect::<BTreeSet<_>>().len() == part.chars().count();
    let known = part.chars().all(|letter| letter.is_ascii_alphabetic());
    (once && known).then(|| part.chars().map(Axis::Named).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ellipsis_stands_for_the_axes_that_are_left() {
        let left = Equation::read("...ab,bc->...ac", 4).unwrap();
        assert_eq!(left.spelled().as_deref(), Some("deab,bc->deac"));
        let right = Equation::read("abc...,cd->adb...", 4).unwrap();
        assert_eq!(right.spelled().as_deref(), Some("abce,cd->adbe"));
        let none = Equation::read("...b,bc->...c", 1).unwrap();
        assert_eq!(none.spelled().as_deref(), Some("b,bc->c"));
    }

    #[test]
    fn sizes_come_from_the_output_shape_or_the_input() {
        let equation = Equation::read("abc,cde->abde", 3).unwrap();
        let input = [None, Some(4), Some(6)];
        let sizes = equation
            .output_sizes(&input, &[None, Some(2), Some(3)])
            .unwrap();
        let sizes: Vec<_> = sizes.into_iter().map(|(_, size)| size).collect();
        assert_eq!(sizes, [None, Some(4), Some(2), Some(3)]);
        assert!(equation.output_sizes(&input, &[Some(2)]).is_err());
        let elided = Equation::read("...c,cd->...d", 3).unwrap();
        let sizes = elided.output_sizes(&input, &[Some(5)]).unwrap();
        assert_eq!(sizes, [(Axis::Named('d'), Some(5))]);
    }

    #[test]
    fn wrong_equations_say_why() {
        let cases = [
            ("ab,bc", 2, "form"),
            ("ab,bc->a1", 2, "form"),
            ("aab,bc->ac", 3, "form"),
            ("ab...,bc->...ac", 3, "form"),
            ("ab,bc->ac", 3, "3 axes"),
            ("abc,cd->abd", 2, "2 axes"),
            ("ab,bcx->ac", 2, "kernel's 'x'"),
            ("ab,bc->acx", 2, "output's 'x'"),
        ];
        for (text, rank, expected) in cases {
            let message = Equation::read(text, rank).unwrap_err();
            assert!(message.contains(expected), "{message:?} lacks {expected:?}");
        }
    }

    #[test]
    fn a_bias_begins_at_its_first_axis() {
        let equation = Equation::read("abc,cde->abde", 3).unwrap();
        let axes = |letters| equation.bias_axes(letters).unwrap();
        assert_eq!(axes("e"), [Some(Axis::Named('e'))]);
        assert_eq!(axes("d"), [Some(Axis::Named('d')), None]);
        assert_eq!(axes("ed"), [Some(Axis::Named('d')), Some(Axis::Named('e'))]);
        assert!(equation.bias_axes("c").is_err());
        let right = Equation::read("ab...,bc->ac...", 4).unwrap();
        assert_eq!(
            right.bias_axes("c").unwrap(),
            [Some(Axis::Named('c')), None, None]
        );
    }
}
