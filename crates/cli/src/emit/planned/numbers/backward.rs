//! RMSNorm's backward for the engine, in its arithmetic, against f64.

use anemone_ane::chips::Chip;
use anemone_ane::simulator::Simulator;
use anemone_lm::head::merge::scaled_for_rmsnorm_backward;
use anemone_lm::programs::head::EPS;
use anemone_lm::programs::head::tiled::{Rows, Tile};
use anemone_lm::random::Random;
use anemone_mil::weights::WeightMap;

use super::forms::run;
use super::rmsnorm::{DIM, HEAD, POSITIONS, SCALES, hidden};
use super::{error, fp16};

/// dx = r·(dx̂ − x̂·mean(dx̂·x̂)) with dx̂ = dxn·g, and the gain's gradient Σ dxn·x̂.
fn exact(dxn: &[f64], gain: &[f64], x: &[f64]) -> [Vec<f64>; 2] {
    let (mut dx, mut dgain) = (vec![0.0; DIM * POSITIONS], vec![0.0; DIM]);
    for s in 0..POSITIONS {
        let at = |d: usize| d * POSITIONS + s;
        let square = (0..DIM).map(|d| x[at(d)] * x[at(d)]).sum::<f64>() / DIM as f64;
        let r = 1.0 / (square + EPS).sqrt();
        let along = (0..DIM).map(|d| dxn[at(d)] * gain[d] * x[at(d)] * r).sum::<f64>() / DIM as f64;
        for d in 0..DIM {
            let x_hat = x[at(d)] * r;
            dx[at(d)] = r * (dxn[at(d)] * gain[d] - x_hat * along);
            dgain[d] += dxn[at(d)] * x_hat;
        }
    }
    [dx, dgain]
}

/// Gains up to 4, and gradients from 1e-7 to 1e-3, of which the last position has a hundredth of the others'.
#[test]
fn the_backward_of_the_rmsnorm_is_right_for_every_size_of_hidden_vectors() {
    let mut random = Random::stream(13, 0);
    let gain: Vec<f64> = (0..DIM).map(|_| 4.0 * random.uniform()).collect();
    let gain = fp16(&[1, DIM, 1, 1], &gain);
    println!("| outliers | rms | dx | dx of the last position | dgain | overflows |");
    for (outliers, rms) in [false, true].into_iter().flat_map(|outliers| SCALES.map(|rms| (outliers, rms))) {
        for size in [1e-7, 1e-3] {
            let x = hidden(rms, outliers);
            let mut dxn: Vec<f32> = (0..DIM * POSITIONS).map(|_| (size * random.normal()) as f32).collect();
            dxn.iter_mut().skip(POSITIONS - 1).step_by(POSITIONS).for_each(|value| *value *= 0.01);
            let (scaled, scale) = scaled_for_rmsnorm_backward(&dxn);
            let scaled: Vec<f64> = scaled.into_iter().map(f64::from).collect();
            let scaled = fp16(&[1, DIM, 1, POSITIONS], &scaled);
            let engine = Simulator::new(Chip::M4);
            let tile = Tile { head: HEAD, rows: Rows::Input };
            let found = run(&engine, tile.rmsnorm_backward(), &WeightMap::default(), &[&scaled, &gain, &x]);
            let unscaled = |output: usize, times: f64| -> Vec<f64> {
                let values = found[output].to_f64().unwrap();
                values.into_iter().map(|value| value * times / f64::from(scale)).collect()
            };
            let (dx, dgain) = (unscaled(0, 1.0), unscaled(1, POSITIONS as f64));
            let dxn: Vec<f64> = dxn.into_iter().map(f64::from).collect();
            let [exact_dx, exact_dgain] = exact(&dxn, &gain.to_f64().unwrap(), &x.to_f64().unwrap());
            let last = |dx: &[f64]| -> Vec<f64> {
                dx.iter().skip(POSITIONS - 1).step_by(POSITIONS).copied().collect()
            };
            let errors =
                [error(&dx, &exact_dx), error(&last(&dx), &last(&exact_dx)), error(&dgain, &exact_dgain)];
            let overflows = engine.report().total().overflows;
            let cells = errors.map(|error| format!("{error:.1e}")).join(" | ");
            println!("| {outliers} | {rms:e} | {cells} | {overflows} |");
            assert_eq!(overflows, 0, "rms {rms}, gradients of {size}");
            assert!(errors.iter().all(|&error| error < 0.01), "rms {rms}, gradients of {size}: {errors:?}");
        }
    }
}
