//! Devices that are pools of their own: the extended resources of the vendors' device plugins.

/// A kind of device.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Device {
    /// Name of the extended resource.
    pub(super) resource: &'static str,
    /// Labels of nodes that name the model, the first one that is there.
    pub(super) model_labels: &'static [&'static str],
    /// What one of them is called.
    pub(super) unit: &'static str,
}

/// The resources and labels are those that the device plugins and node labellers of the vendors document.
pub(super) const DEVICES: &[Device] = &[
    Device {
        resource: "amd.com/gpu",
        model_labels: &["amd.com/gpu.product-name", "beta.amd.com/gpu.product-name"],
        unit: "gpu",
    },
    Device {
        resource: "google.com/tpu",
        model_labels: &["cloud.google.com/gke-tpu-accelerator"],
        unit: "tpu",
    },
    Device {
        resource: "gpu.intel.com/i915",
        model_labels: &["gpu.intel.com/product"],
        unit: "gpu",
    },
    Device { resource: "gpu.intel.com/xe", model_labels: &["gpu.intel.com/product"], unit: "gpu" },
    Device {
        resource: "nvidia.com/gpu",
        model_labels: &["nvidia.com/gpu.product", "cloud.google.com/gke-accelerator"],
        unit: "gpu",
    },
];

/// The device that an extended resource counts.
pub(super) fn of_resource(name: &str) -> Option<&'static Device> {
    DEVICES.iter().find(|device| device.resource == name)
}
