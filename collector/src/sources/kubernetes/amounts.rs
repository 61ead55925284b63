//! Amounts of the resources that pools are made of.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::{
    devices,
    quantity::{self, Thousandths},
};

pub(super) const CPU: &str = "cpu";
pub(super) const MEMORY: &str = "memory";
const PODS: &str = "pods";

/// An amount of each resource: of cores, bytes and devices. Sorted by name; what is not there is zero.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Amounts(Vec<(&'static str, Thousandths)>);

impl Amounts {
    /// Of what Kubernetes lists, that which counts. What cannot be read is left out: the API server checks
    /// quantities before it stores them.
    pub(super) fn read(list: &BTreeMap<String, Quantity>) -> Self {
        let mut amounts = Self::default();
        for (name, Quantity(text)) in list {
            if let (Some(name), Some(amount)) = (counted(name), quantity::parse(text)) {
                amounts.set(name, amount);
            }
        }
        amounts
    }

    /// Of what may not be there.
    pub(super) fn read_some(list: Option<&BTreeMap<String, Quantity>>) -> Self {
        list.map(Self::read).unwrap_or_default()
    }

    /// How much of one resource.
    pub(super) fn get(&self, name: &str) -> Thousandths {
        self.place(name).map_or(0, |place| self.0[place].1)
    }

    /// How many pods a node may run.
    pub(super) fn pods(&self) -> Thousandths {
        self.get(PODS)
    }

    /// Replaces the amount of one resource.
    pub(super) fn set(&mut self, name: &'static str, amount: Thousandths) {
        match self.place(name) {
            Ok(place) => self.0[place].1 = amount,
            Err(place) => self.0.insert(place, (name, amount)),
        }
    }

    /// Adds `other` to it.
    pub(super) fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.set(name, self.get(name) + amount);
        }
    }

    /// Takes `other` from it.
    pub(super) fn subtract(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.set(name, self.get(name) - amount);
        }
    }

    /// Raises each amount to that of `other`.
    pub(super) fn raise_to(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            self.set(name, self.get(name).max(*amount));
        }
    }

    /// Every resource of which there is an amount.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.0.iter().map(|(name, _)| *name)
    }

    fn place(&self, name: &str) -> Result<usize, usize> {
        self.0.binary_search_by(|(known, _)| (*known).cmp(name))
    }
}

/// The name of a resource that counts.
fn counted(name: &str) -> Option<&'static str> {
    [CPU, MEMORY, PODS]
        .into_iter()
        .find(|known| *known == name)
        .or_else(|| devices::of_resource(name).map(|device| device.resource))
}
