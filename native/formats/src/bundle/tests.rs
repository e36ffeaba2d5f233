//! What needs no TensorFlow: round trips, damage, and files that lie.

use proptest::prelude::*;

use super::*;
use crate::DType;

fn sample() -> BTreeMap<String, Tensor> {
    let words = vec![b"caf\xe9".to_vec(), Vec::new(), vec![b'x'; 300]];
    let mut tensors: BTreeMap<String, Tensor> = [
        (
            "words".into(),
            Strings::new(vec![3, 1], words).unwrap().into(),
        ),
        ("none".into(), Strings::new(vec![0], vec![]).unwrap().into()),
        (
            "empty".into(),
            Array::new::<f32>(vec![2, 0], []).unwrap().into(),
        ),
    ]
    .into();
    for dtype in DType::ALL {
        let bytes = vec![1; 6 * dtype.width()];
        let array = Array::from_le_bytes(dtype, vec![2, 3], bytes).unwrap();
        tensors.insert(format!("dtypes/{dtype}"), array.into());
    }
    tensors
}

fn written(tensors: &BTreeMap<String, Tensor>) -> (Vec<u8>, Vec<u8>) {
    let mut writer = BundleWriter::new(Vec::new());
    for (key, tensor) in tensors {
        writer.add(key, tensor).unwrap();
    }
    let (data, index) = writer.finish();
    (index, data)
}

fn all(index: &[u8], data: &[u8]) -> Result<BTreeMap<String, Tensor>> {
    let index = Index::from_bytes("test.index", index)?;
    let keys = index.entries().keys();
    keys.map(|key| Ok((key.clone(), index.tensor(key, &[data])?)))
        .collect()
}

#[test]
fn what_is_written_is_read_back() {
    let (index, data) = written(&sample());
    assert_eq!(all(&index, &data).unwrap(), sample());
    let (index, data) = written(&BTreeMap::new());
    assert_eq!(all(&index, &data).unwrap(), BTreeMap::new());
}

#[test]
fn files_are_written_under_the_names_of_tensorflow() {
    let dir = tempfile::tempdir().unwrap();
    let mut graph = ObjectGraph::default();
    let key = graph.add_variable("a.b/c", "c").unwrap();
    assert_eq!(key, "a..b/c/.ATTRIBUTES/VARIABLE_VALUE");
    let tensors = [(key.clone(), Array::scalar(0.5).into())].into();
    let paths = write(dir.path(), "ckpt-3", &tensors, Some(&graph)).unwrap();
    let names = paths.map(|path| path.file_name().unwrap().to_owned());
    assert_eq!(names, ["ckpt-3.data-00000-of-00001", "ckpt-3.index"]);
    let (index, shards) = read(dir.path(), "ckpt-3").unwrap();
    assert_eq!(index.object_graph(&shards).unwrap(), Some(graph.clone()));
    let found = graph.variable_at("a.b/c").unwrap();
    assert_eq!(index.tensor(&found.key, &shards).unwrap(), tensors[&key]);
    assert!(matches!(read(dir.path(), "ckpt-4"), Err(Error::Io { .. })));
}

#[test]
fn an_index_of_many_blocks_is_read_back() {
    let scalar = Tensor::from(Array::from(1_u8));
    let keys = (0..9000).map(|i| format!("{i:04}/{}", "long ".repeat(i % 20)));
    let tensors: BTreeMap<String, Tensor> = keys.map(|key| (key, scalar.clone())).collect();
    let (index, data) = written(&tensors);
    assert!(index.len() > 2 << 18);
    assert_eq!(all(&index, &data).unwrap(), tensors);
}

#[test]
fn every_one_byte_change_is_an_error_or_changes_nothing() {
    let (index, data) = written(&sample());
    let changed = |file: &[u8], at: usize| {
        let mut file = file.to_vec();
        file[at] ^= 1 << (at % 8);
        file
    };
    for at in 0..index.len() {
        if let Ok(tensors) = all(&changed(&index, at), &data) {
            assert_eq!(tensors, sample(), "byte {at} of the index");
        }
    }
    for at in 0..data.len() {
        assert!(
            all(&index, &changed(&data, at)).is_err(),
            "byte {at} of the data"
        );
    }
}

#[test]
fn every_cut_is_an_error() {
    let (index, data) = written(&sample());
    for end in 0..index.len() {
        assert!(all(&index[..end], &data).is_err(), "index cut at {end}");
    }
    for end in 0..data.len() {
        assert!(all(&index, &data[..end]).is_err(), "data cut at {end}");
    }
}

#[test]
fn keys_are_new_and_not_empty() {
    let scalar = Tensor::from(Array::scalar(1.0));
    let mut writer = BundleWriter::new(Vec::new());
    writer.add("a", &scalar).unwrap();
    for key in ["a", "", "\0a"] {
        let error = writer.add(key, &scalar).unwrap_err();
        assert!(matches!(error, Error::Invalid { .. }), "{error}");
    }
}

/// An index with one record of these bytes.
fn index_of(key: &str, record: &[u8]) -> Vec<u8> {
    let mut table = TableBuilder::default();
    table.add(b"", &Header::of_one_shard());
    table.add(key.as_bytes(), record);
    table.finish()
}

fn entry() -> Entry {
    Entry {
        code: 1,
        shape: vec![2],
        shard: 0,
        offset: 0,
        size: 8,
        checksum: MaskedCrc::of(&[0; 8]),
    }
}

#[test]
fn entries_that_contradict_the_data_are_errors() {
    let read = |entry: &Entry| {
        let index = Index::from_bytes("test.index", &index_of("a", &entry.encode()))?;
        index.tensor("a", &[[0; 8]])
    };
    assert!(read(&entry()).is_ok());
    let change = |change: fn(&mut Entry)| {
        let mut changed = entry();
        change(&mut changed);
        read(&changed).unwrap_err().to_string()
    };
    assert!(change(|entry| entry.shard = 1).contains("shard 1 of 1"));
    assert!(change(|entry| entry.offset = 1).contains("ends before it does"));
    assert!(change(|entry| entry.offset = u64::MAX).contains("ends before it does"));
    assert!(change(|entry| entry.size = u64::MAX).contains("ends before it does"));
    assert!(change(|entry| entry.shape = vec![3]).contains("not held by 8 bytes"));
    assert!(change(|entry| entry.shape = vec![usize::MAX, 2]).contains("shape is not known"));
    assert!(change(|entry| entry.shape = vec![1 << 40, 1 << 40]).contains("not held"));
    assert!(change(|entry| entry.code = 21).contains("it is variant (number 21)"));
    assert!(change(|entry| entry.code = 99).contains("of a type (number 99)"));
    assert!(change(|entry| entry.code = entry::STRING).contains("checksum of its lengths"));
    assert!(change(|entry| entry.checksum = MaskedCrc(0)).contains("does not match"));
}

#[test]
fn tensors_share_no_bytes() {
    let mut table = TableBuilder::default();
    table.add(b"", &Header::of_one_shard());
    table.add(b"a", &entry().encode());
    table.add(b"b", &entry().encode());
    let error = Index::from_bytes("test.index", &table.finish()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "tensor \"b\" of the checkpoint is damaged: its bytes are those of another tensor too; \
         take another copy of it"
    );
}

#[test]
fn what_is_not_read_is_refused_by_name() {
    let read = |bytes: &[u8]| {
        Index::from_bytes("test.index", bytes)
            .unwrap_err()
            .to_string()
    };
    let mut partitioned = entry().encode();
    crate::protobuf::put_bytes(7, b"", &mut partitioned);
    assert!(read(&index_of("a", &partitioned)).contains("partitioned variable"));

    let header = |number: u32, value: u64| {
        let mut header = Header::of_one_shard();
        crate::protobuf::put_uint(number, value, &mut header);
        let mut table = TableBuilder::default();
        table.add(b"", &header);
        table.finish()
    };
    assert!(read(&header(2, 1)).contains("big-endian"));
    assert!(read(&header(1, 0)).contains("claims 0 data files"));
    assert!(read(&header(1, 1 << 40)).contains("data files"));

    let mut table = TableBuilder::default();
    table.add(b"a", &entry().encode());
    assert!(read(&table.finish()).contains("no header"));
}

/// Each key may share all of a long one before it: a few bytes that promise many.
#[test]
fn keys_do_not_grow_without_bound() {
    let mut key = vec![b'k'; 2000];
    let bytes = table::of_one_block((0..2000).map(|_| {
        key.push(b'k');
        key.clone()
    }));
    assert!(bytes.len() < 20_000);
    let error = Index::from_bytes("test.index", &bytes).unwrap_err();
    assert!(
        error.to_string().contains("longer than its size allows"),
        "{error}"
    );
}

#[test]
fn graphs_have_one_object_at_each_path() {
    let mut graph = ObjectGraph::default();
    graph.add_variable("model/a", "x/a").unwrap();
    graph.add_variable("model/b", "x/b").unwrap();
    graph.link("optimizer/_variables/0", "model/a").unwrap();
    graph.link("optimizer/_variables/0", "model/a").unwrap();
    assert_eq!(
        graph.node_at("optimizer/_variables/0"),
        graph.node_at("model/a")
    );
    assert_eq!(graph.variable_named("x/b"), graph.variable_at("model/b"));
    assert_eq!(graph.variable_at("model"), None);
    for result in [
        graph.add_variable("model/a", "y").map(|_| ()),
        graph.add_variable("", "y").map(|_| ()),
        graph.link("optimizer/_variables/0", "model/b"),
        graph.link("z", "model/c"),
        graph.link("", "model/b"),
    ] {
        assert!(matches!(result, Err(Error::Invalid { .. })));
    }
    let bytes = graph.encode();
    assert_eq!(ObjectGraph::decode(&bytes).unwrap(), graph);
    assert!(ObjectGraph::decode(b"").is_err());
    assert!(ObjectGraph::decode(b"\x0a\x06\x0a\x04\x08\x05\x12\x00").is_err());
}

proptest! {
    #[test]
    fn any_keys_survive(keys in prop::collection::btree_set("[a-d/]{1,12}", 0..40)) {
        let tensors = keys.into_iter().enumerate().map(|(value, key)| {
            (key, Tensor::from(Array::from(value as u64)))
        });
        let tensors: BTreeMap<String, Tensor> = tensors.collect();
        let (index, data) = written(&tensors);
        prop_assert_eq!(all(&index, &data).unwrap(), tensors);
    }

    #[test]
    fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
        let _ = ObjectGraph::decode(&bytes);
        let _ = Entry::decode("test", &bytes);
        let _ = Header::decode("test", &bytes);
        let mut table = bytes.clone();
        table.extend(0xdb47_7524_8b80_fb57_u64.to_le_bytes());
        let _ = Index::from_bytes("test", &table);
        for shape in [vec![], vec![bytes.len()]] {
            let entry = Entry { shape, ..entry() };
            let _ = Strings::decode("test", &entry, &bytes);
        }
    }
}
