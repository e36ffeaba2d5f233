//! `keras.layers`, preprocessing of audio: spectrograms.

mod mel_spectrogram;
mod stft_spectrogram;

use crate::layers::Family;

pub(in crate::layers) const LAYERS: Family = &[
    ("MelSpectrogram", mel_spectrogram::build),
    ("STFTSpectrogram", stft_spectrogram::build),
];
