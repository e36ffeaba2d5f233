//! Groups of ranks that share memory, and the rails on which groups speak to each other.

use crate::topology::partners::linked;

/// Which ranks share memory, as all ranks know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Groups {
    /// The ranks of each group, ascending; groups by their first rank.
    members: Vec<Vec<usize>>,
    of: Vec<usize>,
}

impl Groups {
    /// Ranks with the same id form a group.
    pub(crate) fn from_ids(ids: &[usize]) -> Self {
        let mut seen: Vec<usize> = Vec::new();
        let mut members: Vec<Vec<usize>> = Vec::new();
        let mut of = Vec::with_capacity(ids.len());
        for (rank, id) in ids.iter().enumerate() {
            let group = seen
                .iter()
                .position(|known| known == id)
                .unwrap_or_else(|| {
                    seen.push(*id);
                    members.push(Vec::new());
                    seen.len() - 1
                });
            members[group].push(rank);
            of.push(group);
        }
        Self { members, of }
    }

    /// The largest groups in which everybody has reached everybody, of `limit` ranks at most;
    /// `reached[a]` are the ranks whose memory rank `a` has found. Returns an id for each rank.
    pub(crate) fn ids_of_mutual(reached: &[Vec<usize>], limit: usize) -> Vec<usize> {
        let both = |a: usize, b: usize| reached[a].contains(&b) && reached[b].contains(&a);
        let mut groups: Vec<Vec<usize>> = Vec::new();
        let mut ids = Vec::with_capacity(reached.len());
        for rank in 0..reached.len() {
            let fits = |group: &Vec<usize>| {
                group.len() < limit && group.iter().all(|member| both(rank, *member))
            };
            let group = groups.iter().position(fits).unwrap_or_else(|| {
                groups.push(Vec::new());
                groups.len() - 1
            });
            groups[group].push(rank);
            ids.push(groups[group][0]);
        }
        ids
    }

    /// The ranks that share memory with `rank`, itself among them.
    pub(crate) fn of(&self, rank: usize) -> &[usize] {
        &self.members[self.of[rank]]
    }

    /// The number of ranks in all groups.
    pub(crate) fn ranks(&self) -> usize {
        self.of.len()
    }

    /// Which group `rank` is in.
    pub(crate) fn index(&self, rank: usize) -> usize {
        self.of[rank]
    }

    /// The ranks of group `index`.
    pub(crate) fn members(&self, index: usize) -> &[usize] {
        &self.members[index]
    }

    /// The number of ranks in the largest group.
    pub(crate) fn largest(&self) -> usize {
        self.members.iter().map(Vec::len).max().unwrap_or(0)
    }

    /// The number of groups.
    pub(crate) fn count(&self) -> usize {
        self.members.len()
    }

    /// The ranks that stand at `place` in their groups, where groups are so large.
    pub(crate) fn rail(&self, place: usize) -> Vec<usize> {
        let at_place = |members: &Vec<usize>| members.get(place).copied();
        self.members.iter().filter_map(at_place).collect()
    }

    /// How many ranks of each group speak to other groups: all where groups are of one size.
    pub(crate) fn rails(&self) -> usize {
        let size = self.members.first().map_or(1, Vec::len);
        let alike = self.members.iter().all(|members| members.len() == size);
        if alike { size } else { 1 }
    }

    /// The place of `rank` in its group.
    pub(crate) fn place(&self, rank: usize) -> usize {
        let place = self.of(rank).iter().position(|member| *member == rank);
        place.unwrap_or_default()
    }

    /// Whether some plan has `a` and `b` exchange data over the network.
    pub(crate) fn connected(&self, a: usize, b: usize) -> bool {
        let (place, groups) = (self.place(a), (self.of[a], self.of[b]));
        let rail = place == self.place(b) && place < self.rails();
        groups.0 != groups.1
            && (linked(a, b, self.ranks()) || rail && linked(groups.0, groups.1, self.count()))
    }

    /// Whether some ranks share memory and some do not.
    pub(crate) fn are_mixed(&self) -> bool {
        (2..self.of.len()).contains(&self.members.len())
    }
}

#[cfg(test)]
mod tests {
    use super::Groups;

    #[test]
    fn ranks_with_one_id_form_a_group() {
        let groups = Groups::from_ids(&[4, 9, 4, 7, 9]);
        assert_eq!(groups.of(2), [0, 2]);
        assert_eq!(groups.of(3), [3]);
        assert_eq!((groups.rails(), groups.rail(0)), (1, vec![0, 1, 3]));
        assert_eq!(groups.rail(1), [2, 4]);
        assert_eq!(Groups::from_ids(&[0, 0, 1, 1]).rails(), 2);
        assert!(groups.are_mixed());
        assert!(!Groups::from_ids(&[0, 1, 2]).are_mixed());
        assert!(!Groups::from_ids(&[0, 0]).are_mixed());
    }

    #[test]
    fn only_who_reach_each_other_share_a_group() {
        let all = vec![vec![0, 1, 2, 3]; 4];
        assert_eq!(Groups::ids_of_mutual(&all, 64), [0, 0, 0, 0]);
        assert_eq!(Groups::ids_of_mutual(&all, 3), [0, 0, 0, 3]);
        let one_way = vec![vec![1], vec![0, 2], vec![], vec![0, 1, 2]];
        assert_eq!(Groups::ids_of_mutual(&one_way, 64), [0, 0, 2, 3]);
    }
}
