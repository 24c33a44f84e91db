//! The body of a threat model's artefact, version 1, in the [`Envelope`] with the magic "JUNOTHRT". All numbers are
//! little-endian; `str` is a u32 length and UTF-8, `list` a u32 count and the items.
//!
//! ```text
//! body     novelty f64
//!          columns   list of: name str, kind u8 and
//!                      0 number    edges list f64, closed edges list f64, ordinary list f64
//!                      1 category  list of (name str, odds f64, frequency f64)
//!                      2 text      ordinary list str
//!          detectors list of: kind u8 and
//!                      0 trees      base i32, features u32, list of (6 × u16 feature, 6 × u8 cut, 64 × i16 leaf)
//!                      1 linear     column u32, bias f32, weights: sparse list of (u32 place, f32)
//!                      2 histograms entity u32 (u32::MAX for none), features u32, rows list u32,
//!                                   counts: sparse list of (u32 place, u32)
//!                      3 forest     features u32, typical f64, list of (255 × u16 feature, 255 × f32 cut, 256 × f32 path)
//!                      4 reader     column u32, counts: sparse list of (u32 place, u32)
//!          calibrations list (one a detector, and the fused one last) of: count u32, scale f64, list of (score f64, above u32)
//! ```
//!
//! **Invariant:** bytes that are not a whole, undamaged model are an error, never a panic and never a large allocation;
//! equal models have equal bytes.

use super::ThreatModel;
use super::column::{Categories, Column, Fitted};
use super::detector::Detector;
use crate::artefact::{Envelope, Input, Writer, senseless};
use crate::conditional_histograms::Histograms;
use crate::conformal::Calibration;
use crate::hashed_ngrams::{Linear, Reader};
use crate::isolation_forest::{self, Forest, NODES};
use crate::oblivious_trees::{self, DEPTH, LEAVES, Trees};
use crate::{Bins, Result};

const ENVELOPE: Envelope = Envelope { magic: b"JUNOTHRT", version: 1, what: "threat model" };
/// Stands for "no column".
const NONE: u32 = u32::MAX;
/// The most places of a sparse list: entities × features × bins of the largest model.
const PLACES_MAX: usize = 1 << 28;

impl ThreatModel {
    /// The model as bytes.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut body = Writer::default();
        body.f64(self.novelty);
        body.list(&self.columns, write_column);
        body.list(&self.detectors, write_detector);
        let calibrations: Vec<&Calibration> = self.calibrations.iter().chain([&self.fused]).collect();
        body.list(&calibrations, |out, calibration| {
            out.u32(calibration.count());
            out.f64(calibration.scale());
            out.list(calibration.points(), |out, (score, above)| {
                out.f64(*score);
                out.u32(*above);
            });
        });
        ENVELOPE.seal(body)
    }

    /// The model of these bytes.
    ///
    /// # Errors
    /// [`Error::Artefact`](crate::Error::Artefact) when they are cut, damaged, of another version or no threat model at all.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        ENVELOPE.open(bytes, read_model)
    }
}

fn read_model(input: &mut Input) -> Result<ThreatModel> {
    let novelty = input.f64()?;
    let columns = input.list(read_column)?;
    let detectors = input.list(|input| read_detector(input, &columns))?;
    let mut calibrations = input.list(|input| {
        let (count, scale) = (input.u32()?, input.f64()?);
        let points = input.list(|input| Ok((input.f64()?, input.u32()?)))?;
        Calibration::from_parts(points, count, scale).ok_or_else(senseless)
    })?;
    let fused = calibrations.pop().ok_or_else(senseless)?;
    if calibrations.len() != detectors.len() || !(0.0..=1.0).contains(&novelty) || columns.is_empty() {
        return Err(senseless());
    }
    Ok(ThreatModel { columns, detectors, calibrations, fused, novelty })
}

fn write_column(out: &mut Writer, column: &Column) {
    out.str(&column.name);
    match &column.fitted {
        Fitted::Number { bins, closed, ordinary } => {
            out.u8(0);
            out.list(bins.edges(), |out, edge| out.f64(*edge));
            out.list(closed.edges(), |out, edge| out.f64(*edge));
            out.list(ordinary, |out, value| out.f64(*value));
        }
        Fitted::Category(categories) => {
            out.u8(1);
            let places: Vec<usize> = (0..categories.names.len()).collect();
            out.list(&places, |out, at| {
                out.str(&categories.names[*at]);
                out.f64(categories.odds[*at]);
                out.f64(categories.frequencies[*at]);
            });
        }
        Fitted::Text { ordinary } => {
            out.u8(2);
            out.list(ordinary, |out, text| out.str(text));
        }
    }
}

fn read_column(input: &mut Input) -> Result<Column> {
    let name = input.str()?;
    let fitted = match input.u8()? {
        0 => {
            let mut bins = || Bins::from_edges(&input.list(Input::f64)?).ok_or_else(senseless);
            Fitted::Number { bins: bins()?, closed: bins()?, ordinary: input.list(Input::f64)? }
        }
        1 => {
            let parts = input.list(|input| Ok((input.str()?, input.f64()?, input.f64()?)))?;
            let names = parts.iter().map(|(name, ..)| name.clone()).collect();
            let (odds, frequencies) = parts.iter().map(|(_, odds, frequency)| (*odds, *frequency)).unzip();
            Fitted::Category(Categories::from_parts(names, odds, frequencies).ok_or_else(senseless)?)
        }
        2 => Fitted::Text { ordinary: input.list(Input::str)? },
        _ => return Err(senseless()),
    };
    Ok(Column { name, fitted })
}

fn write_detector(out: &mut Writer, detector: &Detector) {
    match detector {
        Detector::Trees(trees) => {
            out.u8(0);
            out.bytes(&trees.base.to_le_bytes());
            out.u32(trees.features as u32);
            out.list(&trees.trees, |out, tree| {
                tree.features.iter().for_each(|feature| out.bytes(&feature.to_le_bytes()));
                out.bytes(&tree.cuts);
                tree.leaves.iter().for_each(|leaf| out.bytes(&leaf.to_le_bytes()));
            });
        }
        Detector::Linear { column, model } => {
            out.u8(1);
            out.u32(*column as u32);
            out.bytes(&model.bias.to_le_bytes());
            write_sparse(out, &model.weights.iter().map(|weight| weight.to_bits()).collect::<Vec<u32>>());
        }
        Detector::Histograms { entity, model, table } => {
            out.u8(2);
            out.u32(entity.map_or(NONE, |entity| entity as u32));
            out.u32(table.features() as u32);
            out.list(model.rows(), |out, rows| out.u32(*rows));
            write_sparse(out, model.counts());
        }
        Detector::Forest(forest) => {
            out.u8(3);
            out.u32(forest.features as u32);
            out.f64(forest.typical);
            out.list(&forest.trees, |out, tree| {
                tree.features.iter().for_each(|feature| out.bytes(&feature.to_le_bytes()));
                tree.cuts.iter().chain(&tree.paths).for_each(|value| out.bytes(&value.to_le_bytes()));
            });
        }
        Detector::Reader { column, model } => {
            out.u8(4);
            out.u32(*column as u32);
            write_sparse(out, model.counts());
        }
    }
}

fn read_detector(input: &mut Input, columns: &[Column]) -> Result<Detector> {
    let kind = input.u8()?;
    let text = |column: u32| {
        let column = column as usize;
        let fits = matches!(columns.get(column), Some(Column { fitted: Fitted::Text { .. }, .. }));
        if fits { Ok(column) } else { Err(senseless()) }
    };
    match kind {
        0 => read_trees(input, columns).map(Detector::Trees),
        1 => {
            let column = text(input.u32()?)?;
            let bias = f32::from_le_bytes(input.take()?);
            let weights = read_sparse(input)?.into_iter().map(f32::from_bits).collect();
            let model = Linear::from_weights(bias, weights).ok_or_else(senseless)?;
            Ok(Detector::Linear { column, model })
        }
        2 => {
            let entity = input.u32()?;
            let (features, rows) = (input.u32()? as usize, input.list(Input::u32)?);
            let entity = (entity != NONE).then_some(entity as usize);
            let known = columns.iter().filter(|column| !matches!(column.fitted, Fitted::Text { .. })).count();
            let wanted = match entity.map(|entity| columns.get(entity).map(|column| &column.fitted)) {
                None => 1,
                Some(Some(Fitted::Category(categories))) => categories.names.len(),
                Some(_) => return Err(senseless()),
            };
            let counts = read_sparse(input)?;
            if known != features || rows.len() != wanted {
                return Err(senseless());
            }
            let model = Histograms::from_counts(features, rows, counts).ok_or_else(senseless)?;
            Ok(Detector::histograms(entity, model))
        }
        3 => read_forest(input, columns).map(Detector::Forest),
        4 => {
            let column = text(input.u32()?)?;
            let model = Reader::from_counts(read_sparse(input)?).ok_or_else(senseless)?;
            Ok(Detector::Reader { column, model })
        }
        _ => Err(senseless()),
    }
}

fn read_trees(input: &mut Input, columns: &[Column]) -> Result<Trees> {
    let base = i32::from_le_bytes(input.take()?);
    let features = input.u32()? as usize;
    let trees = input.list(|input| {
        let mut tree = oblivious_trees::Tree { features: [0; DEPTH], cuts: [0; DEPTH], leaves: [0; LEAVES] };
        for feature in &mut tree.features {
            *feature = u16::from_le_bytes(input.take()?);
        }
        tree.cuts = input.take()?;
        for leaf in &mut tree.leaves {
            *leaf = i16::from_le_bytes(input.take()?);
        }
        let fits = tree.features.iter().all(|feature| usize::from(*feature) < features);
        if fits { Ok(tree) } else { Err(senseless()) }
    })?;
    let of = |column: &Column| match column.fitted {
        Fitted::Number { .. } => 1,
        Fitted::Category(_) => 2,
        Fitted::Text { .. } => 0,
    };
    let fits = columns.iter().map(of).sum::<usize>() == features
        && trees.len() <= oblivious_trees::TREES_MAX
        && base.abs() < 1 << 20;
    if fits { Ok(Trees { base, features, trees }) } else { Err(senseless()) }
}

fn read_forest(input: &mut Input, columns: &[Column]) -> Result<Forest> {
    let features = input.u32()? as usize;
    let typical = input.f64()?;
    let trees = input.list(|input| {
        let nodes = (0..NODES).map(|_| Ok(u16::from_le_bytes(input.take()?))).collect::<Result<Vec<u16>>>()?;
        let mut numbers =
            |count: usize| -> Result<Vec<f32>> { (0..count).map(|_| Ok(f32::from_le_bytes(input.take()?))).collect() };
        let tree = isolation_forest::Tree { features: nodes, cuts: numbers(NODES)?, paths: numbers(NODES + 1)? };
        let fits = tree.features.iter().all(|feature| usize::from(*feature) < features);
        if fits { Ok(tree) } else { Err(senseless()) }
    })?;
    let numbers = columns.iter().filter(|column| matches!(column.fitted, Fitted::Number { .. })).count();
    let fits = numbers == features && typical > 0.0 && !trees.is_empty();
    if fits { Ok(Forest { features, typical, trees }) } else { Err(senseless()) }
}

/// How many values there are, then those that are not 0 with their places.
fn write_sparse(out: &mut Writer, values: &[u32]) {
    out.u32(values.len() as u32);
    let places: Vec<usize> = (0..values.len()).filter(|at| values[*at] != 0).collect();
    out.list(&places, |out, at| {
        out.u32(*at as u32);
        out.u32(values[*at]);
    });
}

fn read_sparse(input: &mut Input) -> Result<Vec<u32>> {
    let length = input.u32()? as usize;
    if length > PLACES_MAX {
        return Err(senseless());
    }
    let mut values = vec![0; length];
    for (at, value) in input.list(|input| Ok((input.u32()? as usize, input.u32()?)))? {
        *values.get_mut(at).ok_or_else(senseless)? = value;
    }
    Ok(values)
}
