//! The order in which nodes can be resolved, and the cycles that have none.

use std::collections::BTreeSet;

use crate::diagnostic::{At, Diagnostic};

/// What a node needs first: the other node, and where the pipeline says so.
pub(super) type Needs = Vec<(usize, At)>;

/// Topological order, lowest index first where that is free. Every node is in it; those of a cycle are listed in the
/// second value and reported.
pub(super) fn order(
    needs: &[Needs],
    names: &[&str],
    diagnostics: &mut Vec<Diagnostic>,
) -> (Vec<usize>, BTreeSet<usize>) {
    let mut left: BTreeSet<usize> = (0..needs.len()).collect();
    let mut sorted = Vec::with_capacity(needs.len());
    let mut broken = BTreeSet::new();
    loop {
        let free = left.iter().copied().find(|n| waits_for(needs, *n, &left).is_none());
        if let Some(node) = free {
            left.remove(&node);
            sorted.push(node);
            continue;
        }
        let Some(start) = left.first().copied() else { return (sorted, broken) };
        let cycle = find_cycle(needs, start, &left);
        report(needs, names, &cycle, diagnostics);
        for node in cycle {
            left.remove(&node);
            sorted.push(node);
            broken.insert(node);
        }
    }
}

fn waits_for(needs: &[Needs], node: usize, left: &BTreeSet<usize>) -> Option<usize> {
    needs.get(node)?.iter().map(|(n, _)| *n).find(|n| left.contains(n))
}

/// Walks from `start` to what it waits for until a node comes again. Every node in `left` waits for another in it.
fn find_cycle(needs: &[Needs], start: usize, left: &BTreeSet<usize>) -> Vec<usize> {
    let mut path = vec![start];
    let mut node = start;
    while let Some(next) = waits_for(needs, node, left) {
        if let Some(first) = path.iter().position(|n| *n == next) {
            path.drain(..first);
            break;
        }
        path.push(next);
        node = next;
    }
    path
}

fn report(needs: &[Needs], names: &[&str], cycle: &[usize], diagnostics: &mut Vec<Diagnostic>) {
    let name = |n: usize| names.get(n).copied().unwrap_or("?");
    let mut labels = Vec::new();
    for (i, node) in cycle.iter().enumerate() {
        let next = cycle.get(i + 1).or(cycle.first()).copied().unwrap_or(*node);
        let at = needs.get(*node).and_then(|list| list.iter().find(|(n, _)| *n == next)).map(|(_, at)| at);
        labels.extend(at.map(|at| at.label(format!("`{}` takes from `{}`", name(*node), name(next)))));
    }
    let mut round: Vec<String> = cycle.iter().map(|n| format!("`{}`", name(*n))).collect();
    round.extend(round.first().cloned());
    let message = format!("nodes wait for each other: {}", round.join(" <- "));
    diagnostics.push(Diagnostic {
        code: "cycle",
        severity: crate::diagnostic::Severity::Error,
        message,
        labels,
        help: Some("take one of these links away: what flows may not come back".to_owned()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn needs(edges: &[&[usize]]) -> Vec<Needs> {
        edges.iter().map(|list| list.iter().map(|n| (*n, At::new(0, *n..*n + 1))).collect()).collect()
    }

    #[test]
    fn document_order_where_it_is_free() {
        let mut diagnostics = Vec::new();
        let (order, broken) = order(&needs(&[&[2], &[], &[], &[0, 1]]), &["a", "b", "c", "d"], &mut diagnostics);
        assert_eq!(order, [1, 2, 0, 3]);
        assert!(broken.is_empty() && diagnostics.is_empty());
    }

    #[test]
    fn two_cycles_are_two_findings_and_what_follows_is_not_broken() {
        let mut diagnostics = Vec::new();
        let edges = needs(&[&[1], &[0], &[1], &[3], &[]]);
        let (order, broken) = order(&edges, &["a", "b", "c", "d", "e"], &mut diagnostics);
        assert_eq!(order.len(), 5);
        assert_eq!(broken.into_iter().collect::<Vec<_>>(), [0, 1, 3]);
        let messages: Vec<&str> = diagnostics.iter().map(|d| d.message.as_str()).collect();
        assert_eq!(messages, ["nodes wait for each other: `a` <- `b` <- `a`", "nodes wait for each other: `d` <- `d`"]);
    }
}
