//! `keras.layers`, recurrent. A cell runs over whole sequences, so that it can take the matrices of
//! all steps at once; masks are taken out before it and put back behind it.

mod bidirectional;
mod cell;
mod conv_lstm;
mod dropout;
mod gates;
mod gru;
mod lstm;
mod packing;
mod rnn;
mod simple;
mod stacked;
mod steps;
#[cfg(test)]
mod tests;
mod time_distributed;

use super::Family;

pub(super) const LAYERS: Family = &[
    ("SimpleRNN", rnn::build),
    ("GRU", rnn::build),
    ("LSTM", rnn::build),
    ("RNN", rnn::build),
    ("ConvLSTM1D", rnn::build),
    ("ConvLSTM2D", rnn::build),
    ("ConvLSTM3D", rnn::build),
    ("SimpleRNNCell", cell::build),
    ("GRUCell", cell::build),
    ("LSTMCell", cell::build),
    ("StackedRNNCells", cell::build),
    ("Bidirectional", bidirectional::build),
    ("TimeDistributed", time_distributed::build),
];
