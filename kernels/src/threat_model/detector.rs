//! The detectors of a threat model: fitted on rows, each scores rows in its own unit.
//!
//! **Invariant:** a larger raw score is more suspicious, whatever the detector.

use super::Params;
use super::column::{Column, Fitted, Kind, Rows, Values};
use crate::conditional_histograms::{Histograms, Surprises};
use crate::hashed_ngrams::{Linear, Reader};
use crate::isolation_forest::{self, Forest};
use crate::oblivious_trees::{self, Trees};
use crate::{Codes, Device, Result};

/// Trees of the isolation forest.
const FOREST_TREES: usize = 100;

/// One detector. Columns are named by their place.
#[derive(Clone, Debug)]
pub(super) enum Detector {
    Trees(Trees),
    Linear { column: usize, model: Linear },
    Histograms { entity: Option<usize>, model: Histograms, table: Surprises },
    Forest(Forest),
    Reader { column: usize, model: Reader },
}

impl PartialEq for Detector {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Trees(a), Self::Trees(b)) => a == b,
            (Self::Linear { column: a, model: m }, Self::Linear { column: b, model: n }) => a == b && m == n,
            (Self::Histograms { entity: a, model: m, .. }, Self::Histograms { entity: b, model: n, .. }) => {
                a == b && m == n
            }
            (Self::Forest(a), Self::Forest(b)) => a == b,
            (Self::Reader { column: a, model: m }, Self::Reader { column: b, model: n }) => a == b && m == n,
            _ => false,
        }
    }
}

/// Fits every detector that these columns and labels allow.
pub(super) fn fit(
    device: &Device,
    columns: &[Column],
    values: &[Values],
    labels: &[bool],
    params: &Params,
) -> Result<Vec<Detector>> {
    let rows = Rows::new(columns, values)?;
    let mut detectors = Vec::new();
    if labels.contains(&true) {
        known(device, &rows, labels, params, &mut detectors)?;
    }
    let ordinary: Vec<usize> = (0..rows.len()).filter(|row| !labels[*row]).collect();
    let owned: Vec<_> = values.iter().map(|column| column.pick(&ordinary)).collect();
    let views: Vec<Values> = owned.iter().map(super::column::Owned::view).collect();
    novel(device, &Rows::new(columns, &views)?, params, &mut detectors)?;
    Ok(detectors)
}

/// Detectors of what is like the attacks among the rows.
fn known(device: &Device, rows: &Rows, labels: &[bool], params: &Params, detectors: &mut Vec<Detector>) -> Result<()> {
    let codes = rows.tree_codes(&[]);
    let features = codes.len() / rows.len().max(1);
    if features > 0 {
        let codes = Codes::new(&codes, rows.len(), features)?;
        detectors.push(Detector::Trees(oblivious_trees::train(device, &codes, labels, &[], &params.trees)?));
    }
    for column in of_kind(rows.columns, Kind::Text) {
        let model = Linear::train(rows.texts(column), labels, params.trees.seed)?;
        detectors.push(Detector::Linear { column, model });
    }
    Ok(())
}

/// Detectors of what is unlike ordinary rows, which these are.
fn novel(device: &Device, rows: &Rows, params: &Params, detectors: &mut Vec<Detector>) -> Result<()> {
    let codes = rows.novelty_codes();
    let features = codes.len() / rows.len().max(1);
    let entity = entity(rows.columns);
    if features > 0 {
        let codes = Codes::new(codes, rows.len(), features)?;
        let count = entity.map_or(1, |entity| categories(&rows.columns[entity]));
        let mut model = Histograms::new(count, features)?;
        model.learn(&codes, &of_entity(rows, entity))?;
        detectors.push(Detector::histograms(entity, model));
    }
    let numbers = rows.numbers();
    // Beside histograms by entity it took more false alarms than it found attacks, with attack families left out in turn.
    if entity.is_none() && numbers.len() > 1 {
        detectors.push(Detector::Forest(isolation_forest::grow(device, &numbers, FOREST_TREES, params.trees.seed)?));
    }
    for column in of_kind(rows.columns, Kind::Text) {
        let mut model = Reader::default();
        model.read(rows.texts(column));
        detectors.push(Detector::Reader { column, model });
    }
    Ok(())
}

/// The columns of a kind.
fn of_kind(columns: &[Column], kind: Kind) -> impl Iterator<Item = usize> {
    columns.iter().enumerate().filter(move |(_, column)| column.kind() == kind).map(|(at, _)| at)
}

/// The category column with the most values, or none: all rows are one entity.
fn entity(columns: &[Column]) -> Option<usize> {
    // Of equals the first.
    of_kind(columns, Kind::Category).max_by_key(|at| (categories(&columns[*at]), std::cmp::Reverse(*at)))
}

fn categories(column: &Column) -> usize {
    match &column.fitted {
        Fitted::Category(categories) => categories.names.len(),
        _ => 0,
    }
}

/// The entity of every row.
fn of_entity(rows: &Rows, entity: Option<usize>) -> Vec<u32> {
    entity.map_or_else(|| vec![0; rows.len()], |entity| rows.places(entity).to_vec())
}

impl Detector {
    /// Histograms with their table of surprises.
    pub(super) fn histograms(entity: Option<usize>, model: Histograms) -> Self {
        let table = model.surprises();
        Self::Histograms { entity, model, table }
    }

    /// Whether it was fitted on ordinary rows alone.
    pub(super) fn is_novelty(&self) -> bool {
        !matches!(self, Self::Trees(_) | Self::Linear { .. })
    }

    /// Its name, with its column where it has one.
    pub(super) fn name(&self, columns: &[Column]) -> String {
        match self {
            Self::Trees(_) => "trees".to_owned(),
            Self::Linear { column, .. } => format!("n-grams of {}", columns[*column].name),
            Self::Histograms { entity: Some(entity), .. } => format!("histograms by {}", columns[*entity].name),
            Self::Histograms { entity: None, .. } => "histograms".to_owned(),
            Self::Forest(_) => "isolation forest".to_owned(),
            Self::Reader { column, .. } => format!("surprise of {}", columns[*column].name),
        }
    }

    /// The raw score of every row, and the launches it took.
    pub(super) fn score(&self, device: &Device, rows: &Rows) -> Result<(Vec<f64>, u64)> {
        let scores = match self {
            Self::Trees(trees) => {
                let codes = rows.tree_codes(&asked(trees));
                let found = trees.margins(device, &Codes::new(&codes, rows.len(), trees.features)?)?;
                return Ok((found.margins, found.launches));
            }
            Self::Linear { column, model } => model.margins(device, rows.texts(*column))?,
            Self::Histograms { entity, table, .. } => {
                let codes = rows.novelty_codes();
                let codes = Codes::new(codes, rows.len(), table.features())?;
                table.score(device, &codes, &of_entity(rows, *entity))?
            }
            Self::Forest(forest) => forest.score(device, &rows.numbers())?,
            Self::Reader { column, model } => model.surprises(device, rows.texts(*column))?,
        };
        Ok((scores, 0))
    }
}

/// Which features any tree asks.
fn asked(trees: &Trees) -> Vec<bool> {
    let mut asked = vec![false; trees.features];
    for tree in &trees.trees {
        for (feature, cut) in tree.features.iter().zip(tree.cuts) {
            asked[usize::from(*feature)] |= cut != 255;
        }
    }
    asked
}
