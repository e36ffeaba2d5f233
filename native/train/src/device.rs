//! Where a session computes: on the CPU, or on which GPU.

use crate::error::Error;
use flambeau_libtorch::{NoGpu, gpus, has_driver};
use serde::Deserialize;

/// Where a session is to compute.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// What the user wants.
    pub kind: DeviceKind,
    /// Which GPU the user or Spark has named, counted from 0.
    #[serde(default)]
    pub index: Option<usize>,
    /// Which of the tasks on this host this is, counted from 0: where no GPU is named, they go round.
    #[serde(default)]
    pub place: usize,
}

/// What kind of device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DeviceKind {
    /// A GPU if there is one.
    Auto,
    /// The CPU.
    #[default]
    Cpu,
    /// A GPU, and nothing else.
    Cuda,
}

impl Device {
    /// The device that this process has.
    ///
    /// # Errors
    /// [`Error::NoGpu`], if there must be one.
    pub(crate) fn choose(&self) -> Result<tch::Device, Error> {
        let chosen = match self.kind {
            DeviceKind::Cpu => return Ok(tch::Device::Cpu),
            // Most machines have none, and nobody has promised one: libtorch's part for them, which
            // takes seconds, is not even loaded.
            DeviceKind::Auto if self.index.is_none() && !has_driver() => {
                return Ok(tch::Device::Cpu);
            }
            DeviceKind::Auto => match self.gpu() {
                Err(reason) => {
                    log::warn!("computes on the CPU: {reason}");
                    return Ok(tch::Device::Cpu);
                }
                Ok(gpu) => gpu,
            },
            DeviceKind::Cuda => self.gpu()?,
        };
        log::info!("computes on {chosen:?}");
        Ok(chosen)
    }

    fn gpu(&self) -> Result<tch::Device, NoGpu> {
        let count = gpus()?;
        match self.index {
            Some(index) if index >= count => Err(NoGpu::NoSuch { index, count }),
            Some(index) => Ok(tch::Device::Cuda(index)),
            None => Ok(tch::Device::Cuda(self.place % count)),
        }
    }
}
