//! Plans carried out by all ranks of a job in one thread, over a simulated network in virtual time.
//!
//! A host sends messages at the rate of its network card, one after the other; each arrives a latency
//! later and takes the receiving card as long. Ranks of one host hand messages over at the rate of
//! memory. Nothing else costs time: see docs/scaling.md for what that leaves out.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use proptest::prelude::*;

use crate::algorithm::broadcast::spread;
use crate::algorithm::choice::World;
use crate::algorithm::doubling::Doubling;
use crate::algorithm::gather::Gather;
use crate::algorithm::halving::Halving;
use crate::algorithm::pipeline::stages_of;
use crate::algorithm::ring::Ring;
use crate::algorithm::scatter::Scatter;
use crate::algorithm::{Action, Plan, Step};
use crate::topology::chunks::Slice;
use crate::topology::groups::Groups;
use crate::topology::partners::MESH;

/// What a network is made of; seconds and bytes per second.
#[derive(Clone, Copy)]
struct Network {
    latency: f64,
    rate: f64,
    memory_rate: f64,
    ranks_per_host: usize,
}

const FAST: Network = Network {
    latency: 0.0,
    rate: 1e9,
    memory_rate: 1e10,
    ranks_per_host: 1,
};

/// One rank on its way through its plan.
struct Rank<'a> {
    plan: Box<dyn Plan + 'a>,
    data: Vec<f32>,
    round: usize,
    receives: VecDeque<Step>,
    clock: f64,
    /// Until when its memory is busy with what it sends and receives within its host.
    busy: Card,
}

/// Until when a card sends and receives.
#[derive(Clone, Copy, Default)]
struct Card {
    sends: f64,
    receives: f64,
}

struct Message {
    sent: f64,
    bytes: usize,
    payload: Vec<f32>,
}

/// Runs one plan for each rank on its data, `segment` elements in a part of a slice that each stand
/// for `scale` bytes. Returns the data and the seconds until the last rank is done.
fn simulate<'a>(
    plans: impl Iterator<Item = Box<dyn Plan + 'a>>,
    data: Vec<Vec<f32>>,
    (segment, scale): (usize, usize),
    network: Network,
) -> (Vec<Vec<f32>>, f64) {
    let length = data[0].len();
    let host = |rank: usize| rank / network.ranks_per_host;
    let mut ranks: Vec<Rank<'_>> = plans
        .zip(data)
        .map(|(plan, data)| Rank {
            plan,
            data,
            round: 0,
            receives: VecDeque::new(),
            clock: 0.0,
            busy: Card::default(),
        })
        .collect();
    let mut cards = vec![Card::default(); host(ranks.len()) + 1];
    let mut wires: BTreeMap<(usize, usize), VecDeque<Message>> = BTreeMap::new();
    let mut steps = Vec::new();
    loop {
        let mut moved = false;
        for (own, rank) in ranks.iter_mut().enumerate() {
            let count = length.div_ceil(rank.plan.parts().saturating_mul(segment));
            let (stages, rounds) = (rank.plan.stages(), count + rank.plan.stages());
            loop {
                while let Some(step) = rank.receives.front() {
                    let wire = wires.entry((step.peer, own)).or_default();
                    let Some(message) = wire.pop_front() else {
                        break;
                    };
                    moved = true;
                    assert_eq!(message.payload.len(), step.range.len(), "{own} {step:?}");
                    let near = host(step.peer) == host(own);
                    let rate = if near {
                        network.memory_rate
                    } else {
                        network.rate
                    };
                    let arrives = message.sent + if near { 0.0 } else { network.latency };
                    let takes = message.bytes as f64 / rate;
                    let card = if near {
                        &mut rank.busy
                    } else {
                        &mut cards[host(own)]
                    };
                    card.receives = arrives.max(card.receives + takes);
                    rank.clock = rank.clock.max(card.receives);
                    for (number, came) in rank.data[step.range.clone()]
                        .iter_mut()
                        .zip(message.payload)
                    {
                        *number = if step.action == Action::Add {
                            *number + came
                        } else {
                            came
                        };
                    }
                    rank.receives.pop_front();
                }
                if !rank.receives.is_empty() || rank.round + 1 >= rounds {
                    break;
                }
                moved = true;
                let number = rank.round;
                rank.round += 1;
                for (stage, slice) in stages_of(number, stages, count, length) {
                    rank.plan.steps(stage, slice, &mut steps);
                }
                let mut until = rank.clock;
                for step in steps.drain(..).filter(|step| !step.range.is_empty()) {
                    if step.action != Action::Send {
                        rank.receives.push_back(step);
                        continue;
                    }
                    let bytes = step.range.len() * scale;
                    let near = host(step.peer) == host(own);
                    let rate = if near {
                        network.memory_rate
                    } else {
                        network.rate
                    };
                    let card = if near {
                        &mut rank.busy
                    } else {
                        &mut cards[host(own)]
                    };
                    card.sends = card.sends.max(rank.clock) + bytes as f64 / rate;
                    let sent = card.sends;
                    until = sent.max(until);
                    let payload = rank.data[step.range].to_vec();
                    let message = Message {
                        sent,
                        bytes,
                        payload,
                    };
                    wires
                        .entry((own, step.peer))
                        .or_default()
                        .push_back(message);
                }
                rank.clock = rank.clock.max(until);
            }
        }
        if !moved {
            break;
        }
    }
    assert!(
        ranks.iter().all(|rank| rank.receives.is_empty()),
        "ranks wait for each other"
    );
    assert!(
        wires.values().all(VecDeque::is_empty),
        "nobody takes a message"
    );
    let seconds = ranks.iter().map(|rank| rank.clock).fold(0.0, f64::max);
    (ranks.into_iter().map(|rank| rank.data).collect(), seconds)
}

fn contributions(world_size: usize, length: usize) -> Vec<Vec<f32>> {
    let of = |rank| {
        (0..length)
            .map(move |index| ((index * 7 + rank * 13) % 101) as f32)
            .collect()
    };
    (0..world_size).map(of).collect()
}

fn sum(contributions: &[Vec<f32>]) -> Vec<f32> {
    let sum = |index: usize| contributions.iter().map(|data| data[index]).sum();
    (0..contributions[0].len()).map(sum).collect()
}

/// Every allreduce that all ranks take part in alike.
fn flat_plans<'a>(members: &'a [usize], place: usize) -> [Box<dyn Plan + 'a>; 4] {
    let gather = true;
    [
        Box::new(Scatter {
            members,
            place,
            gather,
        }),
        Box::new(Ring {
            members,
            place,
            gather,
        }),
        Box::new(Halving { members, place }),
        Box::new(Doubling { members, place }),
    ]
}

fn as_plan<'a>(plan: Box<dyn Plan>) -> Box<dyn Plan + 'a> {
    plan
}

/// A piece of the vector for each rank, of differing lengths, and what all have of them together.
fn gathered(data: &[Vec<f32>]) -> (Vec<Range<usize>>, Vec<f32>) {
    let (world_size, length) = (data.len(), data[0].len());
    let cut = |place: usize| place * place * length / (world_size * world_size);
    let pieces: Vec<_> = (0..world_size)
        .map(|place| cut(place)..cut(place + 1))
        .collect();
    let mut all = vec![0.0; length];
    for (piece, data) in pieces.iter().zip(data) {
        all[piece.clone()].copy_from_slice(&data[piece.clone()]);
    }
    (pieces, all)
}

/// All steps of a plan for a vector of `length` elements as one slice.
fn steps_of(plan: &dyn Plan, length: usize) -> Vec<Step> {
    let slice = Slice {
        start: 0,
        length,
        count: 1,
        index: 0,
    };
    let mut steps = Vec::new();
    (0..plan.stages()).for_each(|stage| plan.steps(stage, slice, &mut steps));
    steps
}

/// Elements that each group is sent by others.
fn over_the_network<'a>(
    groups: &Groups,
    plans: impl Iterator<Item = Box<dyn Plan + 'a>>,
    length: usize,
) -> Vec<usize> {
    let mut elements = vec![0; groups.count()];
    for (own, plan) in plans.enumerate() {
        for step in steps_of(&*plan, length) {
            if step.action == Action::Send && groups.index(own) != groups.index(step.peer) {
                elements[groups.index(step.peer)] += step.range.len();
            }
        }
    }
    elements
}

proptest! {
    #[test]
    fn every_plan_sums_in_every_world(
        world_size in 1usize..40,
        length in prop_oneof![0usize..50, 0usize..3_000],
        segment in 1usize..40,
    ) {
        let members: Vec<usize> = (0..world_size).rev().collect();
        let data = contributions(world_size, length);
        let expected = sum(&data);
        for kind in 0..4 {
            let plans = (0..world_size).map(|rank| {
                let place = world_size - 1 - rank;
                flat_plans(&members, place).into_iter().nth(kind).expect("one of four")
            });
            let (sums, _) = simulate(plans, data.clone(), (16 * segment, 4), FAST);
            prop_assert!(sums.iter().all(|sum| *sum == expected), "plan {}", kind);
        }
    }

    #[test]
    fn what_is_chosen_sums_and_uses_links_that_there_are(
        hosts in prop::collection::vec(0usize..5, 1..40),
        bytes in prop_oneof![0usize..100_000, 1_000_000usize..100_000_000],
    ) {
        let groups = Groups::from_ids(&hosts);
        let worlds: Vec<_> = (0..hosts.len())
            .map(|rank| World::new(rank, hosts.len(), groups.clone()))
            .collect();
        if worlds[0].plan(bytes).is_some() {
            let data = contributions(hosts.len(), 300);
            let expected = sum(&data);
            let plans = worlds.iter().map(|world| world.plan(bytes).expect("as rank 0"));
            let (sums, _) = simulate(plans, data, (16, 4), FAST);
            prop_assert!(sums.iter().all(|sum| *sum == expected));
        }
        for (own, world) in worlds.iter().enumerate() {
            let Some(plan) = world.plan(bytes) else { continue };
            for Step { peer, .. } in steps_of(&*plan, 300) {
                let near = groups.of(own).contains(&peer);
                prop_assert!(near || groups.connected(own, peer), "{} and {}", own, peer);
            }
        }
    }

    #[test]
    fn broadcasts_and_gathers_reach_everybody(world_size in 1usize..40, length in 0usize..500) {
        let members: Vec<usize> = (0..world_size).collect();
        let members = members.as_slice();
        let data = contributions(world_size, length);
        let first = data[0].clone();
        for bytes in [0, usize::MAX] {
            let plans = (0..world_size).filter_map(|place| spread(members, place, bytes));
            let (came, _) = simulate(plans.map(as_plan), data.clone(), (16, 4), FAST);
            prop_assert!(came.iter().all(|data| *data == first));
        }
        let (pieces, all) = gathered(&data);
        for mesh in [false, true] {
            let pieces = pieces.as_slice();
            let gathers = (0..world_size).map(|place| {
                Box::new(Gather { members, place, pieces, mesh }) as Box<dyn Plan>
            });
            let (came, _) = simulate(gathers, data.clone(), (16, 4), FAST);
            prop_assert!(came.iter().all(|data| *data == all), "mesh {}", mesh);
        }
    }
}

proptest! {
    #[test]
    fn broadcasts_and_gathers_among_hosts_reach_everybody_and_each_host_once(
        hosts in prop_oneof![
            prop::collection::vec(0usize..5, 2..40),
            prop::collection::vec(0usize..20, 20..60),
            // As many on each.
            (2usize..20, 2usize..5).prop_map(|(hosts, each)| (0..hosts * each).map(|rank| rank % hosts).collect()),
        ],
        root in 0usize..60,
        bytes in prop_oneof![Just(100usize), Just(100_000_000usize)],
        length in 0usize..500,
    ) {
        let (world_size, root) = (hosts.len(), root % hosts.len());
        let groups = Groups::from_ids(&hosts);
        let worlds: Vec<_> = (0..world_size)
            .map(|rank| World::new(rank, world_size, groups.clone()))
            .collect();
        let data = contributions(world_size, length);
        let broadcasts = || worlds.iter().filter_map(|world| world.broadcast_plan(root, bytes)).map(as_plan);
        let (came, _) = simulate(broadcasts(), data.clone(), (16, 4), FAST);
        prop_assert!(came.iter().all(|came| *came == data[root]));
        let (pieces, all) = gathered(&data);
        let gathers = || worlds.iter().map(|world| world.gather_plan(&pieces, bytes));
        let (came, _) = simulate(gathers(), data.clone(), (16, 4), FAST);
        prop_assert!(came.iter().all(|came| *came == all));

        for (own, plan) in broadcasts().enumerate().chain(gathers().enumerate()) {
            for Step { peer, .. } in steps_of(&*plan, length) {
                let near = groups.of(own).contains(&peer);
                prop_assert!(near || groups.connected(own, peer), "{} and {}", own, peer);
            }
        }
        if groups.are_mixed() {
            let mut once = vec![length; groups.count()];
            once[groups.index(root)] = 0;
            prop_assert_eq!(over_the_network(&groups, broadcasts(), length), once);
        }
        if groups.are_mixed() && (world_size > MESH || bytes > 100) {
            let own = |group: usize| groups.members(group).iter().map(|rank| pieces[*rank].len()).sum::<usize>();
            let others: Vec<_> = (0..groups.count()).map(|group| length - own(group)).collect();
            prop_assert_eq!(over_the_network(&groups, gathers(), length), others);
        }
    }
}

#[test]
fn a_thousand_ranks_on_128_hosts_sum() {
    let hosts: Vec<usize> = (0..1024).map(|rank| rank / 8).collect();
    for ids in [hosts, (0..1024).collect()] {
        let groups = Groups::from_ids(&ids);
        for bytes in [1_000, 1_000_000, 1_000_000_000] {
            let world = |rank| World::new(rank, ids.len(), groups.clone());
            let worlds: Vec<_> = (0..ids.len()).map(world).collect();
            let data = contributions(ids.len(), 2_000);
            let expected = sum(&data);
            let plans = worlds
                .iter()
                .map(|world| world.plan(bytes).expect("a plan"));
            let (sums, _) = simulate(plans, data, (16, 4), FAST);
            assert!(sums.iter().all(|sum| *sum == expected), "{bytes}");
        }
    }
}

/// `make simulate`: milliseconds of an allreduce and a broadcast by executors and network, as
/// docs/scaling.md has it.
#[test]
#[ignore = "prints a table, for minutes"]
fn a_table_of_what_larger_clusters_would_give() {
    const GRADIENTS: usize = 102_400_000;
    println!(
        "| executors | on a host | network | 1 kB, ms | 102.4 MB, ms | MB/s | 102.4 MB to all, ms |\n\
         |---|---|---|---|---|---|---|"
    );
    for ranks_per_host in [1, 4] {
        for world_size in [8, 16, 64, 100, 256, 1024] {
            for gigabits in [10.0, 25.0, 100.0] {
                let network = Network {
                    latency: 30e-6,
                    rate: gigabits * 1e9 / 8.0,
                    memory_rate: 5e9,
                    ranks_per_host,
                };
                let (small, large) = (
                    allreduce_seconds(world_size, 1_000, network),
                    allreduce_seconds(world_size, GRADIENTS, network),
                );
                println!(
                    "| {world_size} | {ranks_per_host} | {gigabits} Gbit/s | {:.2} | {:.1} | {:.0} | {:.1} |",
                    small * 1e3,
                    large * 1e3,
                    GRADIENTS as f64 / large / 1e6,
                    broadcast_seconds(world_size, GRADIENTS, network) * 1e3,
                );
            }
        }
    }
}

fn worlds(world_size: usize, network: Network) -> Vec<World> {
    let ids: Vec<usize> = (0..world_size)
        .map(|rank| rank / network.ranks_per_host)
        .collect();
    let groups = Groups::from_ids(&ids);
    let world = |rank| World::new(rank, world_size, groups.clone());
    (0..world_size).map(world).collect()
}

/// Few elements that stand for so many bytes, and for how many each: a part of a slice is 256 KiB.
fn scaled(bytes: usize) -> (usize, (usize, usize)) {
    let elements = bytes.div_ceil(16 << 10);
    (elements, (16, bytes / elements))
}

fn allreduce_seconds(world_size: usize, bytes: usize, network: Network) -> f64 {
    let worlds = worlds(world_size, network);
    let (elements, scale) = scaled(bytes);
    if worlds[0].plan(bytes).is_some() {
        let plans = worlds
            .iter()
            .map(|world| world.plan(bytes).expect("as rank 0"));
        let data = vec![vec![1.0; elements]; world_size];
        return simulate(plans, data, scale, network).1;
    }
    let all = vec![vec![1.0; world_size * elements]; world_size];
    let pieces = (0..world_size).map(|rank| rank * elements..(rank + 1) * elements);
    let pieces: Vec<_> = pieces.collect();
    let direct = worlds.iter().map(|world| {
        Box::new(Gather {
            members: world.members(),
            place: world.rank(),
            pieces: &pieces,
            mesh: true,
        }) as Box<dyn Plan>
    });
    simulate(direct, all, scale, network).1
}

fn broadcast_seconds(world_size: usize, bytes: usize, network: Network) -> f64 {
    let worlds = worlds(world_size, network);
    let (elements, scale) = scaled(bytes);
    let plans = worlds
        .iter()
        .filter_map(|world| world.broadcast_plan(0, bytes));
    let data = vec![vec![1.0; elements]; world_size];
    simulate(plans.map(as_plan), data, scale, network).1
}
