//! The scorer of the Numenta Anomaly Benchmark v1.1: one threshold for the whole corpus, early detections worth more.
//!
//! In a window the first alarm counts by a sigmoid of its place, 1 at the start; one after it counts negative, more so with the
//! distance; a window without an alarm counts −1 (−2 in the profile that punishes those). The best threshold is found by a sweep,
//! and the sum is put on a scale where no alarms are 0 and the best possible is 100. The first min(15 %, 750) points count nowhere.
//!
//! **Invariant:** knows scores and windows only; no detector sees what it knows.

/// A file with its windows: places of the first and the last point of each.
#[derive(Clone, Debug)]
pub struct File {
    /// Its name in the benchmark.
    pub name: String,
    /// Times in seconds since 1970.
    pub times: Vec<i64>,
    /// Values.
    pub values: Vec<f64>,
    /// Labelled windows.
    pub windows: Vec<(usize, usize)>,
}

impl File {
    /// How many points only teach, by the benchmark's protocol.
    #[must_use]
    pub fn probation(&self) -> usize {
        (self.values.len() * 15 / 100).min(750)
    }
}

/// Weight of a false alarm and of a missed window.
pub const PROFILES: [(&str, f64, f64); 3] = [("standard", 0.11, 1.0), ("low FP", 0.22, 1.0), ("low FN", 0.11, 2.0)];

/// Where a point counts.
#[derive(Clone, Copy)]
enum Place {
    Probation,
    Outside,
    Window(usize),
}

fn sigmoid(place: f64) -> f64 {
    if place > 3.0 { -1.0 } else { 2.0 / (1.0 + (5.0 * place).exp()) - 1.0 }
}

/// What an alarm at each point counts, and where.
fn places(file: &File, first_window: usize) -> Vec<(f64, Place)> {
    let mut windows = file.windows.iter().enumerate().peekable();
    let mut current: Option<(usize, (usize, usize))> = None;
    let mut last: Option<(usize, usize)> = None;
    let mut places = Vec::with_capacity(file.values.len());
    for at in 0..file.values.len() {
        if let Some((index, window)) = windows.next_if(|(_, window)| window.0 == at) {
            current = Some((index, *window));
        }
        let (mut worth, mut place) = (-1.0, Place::Outside);
        if let Some((index, (start, end))) = current {
            let length = (end - start + 1) as f64;
            worth = sigmoid(-((end + 1 - at) as f64) / length) / sigmoid(-1.0);
            place = Place::Window(first_window + index);
        } else if let Some((end, length)) = last {
            worth = sigmoid((at - end) as f64 / (length - 1) as f64);
        }
        if at < file.probation() {
            place = Place::Probation;
        }
        if let Some((_, (start, end))) = current.filter(|(_, window)| window.1 == at) {
            last = Some((end, end - start + 1));
            current = None;
        }
        places.push((worth, place));
    }
    places
}

/// The scores of the three profiles for scores of every point of every file.
#[must_use]
pub fn score(files: &[&File], scores: &[&[f64]]) -> [f64; 3] {
    let mut points: Vec<(f64, f64, Place)> = Vec::new();
    let mut windows = 0;
    for (file, scores) in files.iter().zip(scores) {
        let worth = places(file, windows);
        points.extend(worth.iter().zip(*scores).map(|((worth, place), score)| (*score, *worth, *place)));
        windows += file.windows.len();
    }
    points.retain(|point| point.0 > 0.0 && !matches!(point.2, Place::Probation));
    points.sort_by(|a, b| b.0.total_cmp(&a.0));
    PROFILES.map(|(_, false_alarm, miss)| sweep(&points, windows, false_alarm, miss))
}

/// The best sum over all thresholds, on the benchmark's scale.
fn sweep(points: &[(f64, f64, Place)], windows: usize, false_alarm: f64, miss: f64) -> f64 {
    let mut best_of_window = vec![-miss; windows];
    let mut total = -miss * windows as f64;
    let mut best = total;
    let mut threshold = f64::INFINITY;
    for (score, worth, place) in points {
        if *score < threshold {
            best = best.max(total);
            threshold = *score;
        }
        match place {
            Place::Window(window) if *worth > best_of_window[*window] => {
                total += worth - best_of_window[*window];
                best_of_window[*window] = *worth;
            }
            Place::Outside => total += worth * false_alarm,
            _ => {}
        }
    }
    best = best.max(total);
    100.0 * (best + miss * windows as f64) / (windows as f64 * (1.0 + miss))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> File {
        let values = vec![0.0; 1_000];
        File { name: "a".to_owned(), times: (0..1_000).collect(), values, windows: vec![(400, 499)] }
    }

    #[test]
    fn no_alarm_is_0_and_one_at_the_start_of_the_window_is_100() {
        let (file, mut scores) = (file(), vec![0.0; 1_000]);
        assert_eq!(score(&[&file], &[&scores]), [0.0; 3]);
        scores[400] = 0.9;
        assert!(score(&[&file], &[&scores]).iter().all(|score| (score - 100.0).abs() < 1.0));
    }

    #[test]
    fn a_late_alarm_is_worth_less_and_a_false_one_costs() {
        let (file, mut scores) = (file(), vec![0.0; 1_000]);
        scores[490] = 0.9;
        let late = score(&[&file], &[&scores]);
        scores[300] = 0.9;
        let false_too = score(&[&file], &[&scores]);
        assert!(late[0] < 99.0 && false_too[0] < late[0] && false_too[1] < false_too[0]);
    }

    #[test]
    fn alarms_of_the_probation_count_nowhere() {
        let (file, mut scores) = (file(), vec![0.0; 1_000]);
        scores[100] = 0.9;
        assert_eq!(score(&[&file], &[&scores]), [0.0; 3]);
    }
}
