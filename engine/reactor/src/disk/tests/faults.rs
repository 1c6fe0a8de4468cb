//! What the system does only now and then: steps that end as they rarely do, and
//! files and directories that go while they are in use.

use super::*;

/// How a step ends, in place of how it did.
type Change<'a> = &'a mut dyn FnMut(&Action, Result<Gain, i32>) -> Result<Gain, i32>;

impl Rig {
    /// As [`one`](Self::one), but `change` says how each step ends.
    fn changed(
        &mut self,
        request: DiskRequest,
        change: Change<'_>,
    ) -> Result<DiskOutput, DiskError> {
        self.disk.ask(Instant::now(), request);
        while self.disk.requests > 0 {
            self.disk.submit().unwrap();
            self.disk.ring.wait().unwrap();
            while let Some(mut finished) = self.disk.ring.take() {
                finished.result = change(&finished.action, finished.result);
                self.disk.handle_finished(Instant::now(), finished);
            }
        }
        self.disk.done.pop_front().expect("one was asked").result
    }
}

#[test]
fn a_read_whose_file_was_being_opened_when_there_was_room_is_not_forgotten() {
    let mut rig = rig();
    let (busy, other) = (segment(1), segment(2));
    for file in [busy, other] {
        rig.created(file, MIB);
    }
    rig.disk = open(&rig.dir);
    rig.bytes(busy, 0, 4096);
    let now = Instant::now();
    // There is room for it, but its file has to be opened first.
    let late = rig.read(other, 0, 4096);
    rig.disk.ask(now, late);
    rig.disk.submit().unwrap();
    rig.disk.ring.wait().unwrap();
    // By the time it is open, others have the room.
    for _ in 0..READS_IN_FLIGHT_MAX {
        let read = rig.read(busy, 0, 4096);
        rig.disk.ask(now, read);
    }
    let mut answers = 0;
    while !rig.disk.jobs.is_empty() {
        rig.disk.poll(now, |_| answers += 1).unwrap();
        rig.disk.submit().unwrap();
        rig.disk.ring.wait().unwrap();
    }
    assert_eq!(answers, READS_IN_FLIGHT_MAX + 1, "none is left behind");
    assert_eq!((rig.disk.requests, rig.disk.reads_in_flight), (0, 0));
}

#[test]
fn hundreds_of_removals_leave_the_kernel_room_for_a_write() {
    let mut rig = rig();
    let count = 300;
    let requests = (1..=count).map(|n| rig.create(segment(n), 0)).collect();
    rig.all(requests).into_iter().for_each(done);
    rig.written(segment(1), 0, pattern(BLOCK, 1));
    let now = Instant::now();
    for number in 2..=count {
        let remove = rig.remove(segment(number));
        rig.disk.ask(now, remove);
    }
    let with_kernel = rig.disk.ring.in_kernel();
    assert!(with_kernel < 64, "{with_kernel} of 299");
    let write = rig.write(segment(1), 4096, pattern(BLOCK, 2));
    let (first, _) = write.target();
    rig.disk.ask(now, write);
    assert_eq!(rig.disk.ring.in_kernel(), with_kernel + 1, "at once");
    let (mut answers, mut before) = (0, None);
    while rig.disk.requests > 0 {
        rig.disk.submit().unwrap();
        rig.disk.ring.wait().unwrap();
        assert!(rig.disk.ring.in_kernel() <= 64);
        rig.disk
            .poll(now, |done| {
                if done.op == first {
                    before = Some(answers);
                }
                answers += 1;
                assert!(done.result.is_ok(), "{done:?}");
            })
            .unwrap();
    }
    assert_eq!(answers, count);
    assert!(before.unwrap() < 200, "it passed most of them: {before:?}");
}

#[test]
fn a_flush_that_failed_is_never_tried_again() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, MIB);
    let folder = segment(2);
    for errno in [libc::EINTR, libc::EAGAIN, libc::EIO] {
        let requests = [
            rig.write(file, 0, pattern(BLOCK, 1)),
            rig.truncate(file, 8192),
            rig.create(folder, 4096),
        ];
        for request in requests {
            let mut flushes = 0;
            let answer = rig.changed(request, &mut |action, result| {
                if !action.is_flush() {
                    return result;
                }
                flushes += 1;
                Err(errno)
            });
            assert_eq!(answer.unwrap_err(), DiskError::Io { errno });
            assert_eq!(flushes, 1);
        }
    }
    // What could not be made durable was removed.
    assert_eq!(FileStore::new(&rig.dir).list(LogId(3)).unwrap().0.len(), 1);
}

#[test]
fn a_step_that_is_refused_for_the_moment_is_tried_again_but_not_for_ever() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, MIB);
    for errno in [libc::EINTR, libc::EAGAIN] {
        for refused in [ATTEMPTS_MAX, ATTEMPTS_MAX + 1] {
            let write = rig.write(file, 0, pattern(BLOCK, 7));
            let mut tries = 0;
            let answer = rig.changed(write, &mut |action, result| {
                tries += u8::from(matches!(action, Action::Write { .. }));
                if action.is_flush() || tries > refused {
                    return result;
                }
                Err(errno)
            });
            match answer {
                Ok(_) => assert_eq!(refused, ATTEMPTS_MAX),
                Err(error) => assert_eq!(
                    (refused, error),
                    (ATTEMPTS_MAX + 1, DiskError::Io { errno })
                ),
            }
        }
    }
}

#[test]
fn a_write_goes_on_where_it_stopped_and_says_what_stopped_it() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, MIB);
    let text = pattern(3 * BLOCK, 5);
    // Of the first write a block and a part of one, of the second a part.
    let mut moved = vec![BLOCK + 512, 512];
    moved.reverse();
    let mut begins = Vec::new();
    let mut stop = |action: &Action, result| {
        let Action::Write { from, .. } = action else {
            return result;
        };
        begins.push(*from);
        moved.pop().map_or(result, |count| Ok(Gain::Count(count)))
    };
    let write = rig.write(file, 0, text.clone());
    assert!(matches!(
        rig.changed(write, &mut stop),
        Ok(DiskOutput::Written(_))
    ));
    assert_eq!(begins, [0, BLOCK, BLOCK]);
    assert_eq!(rig.bytes(file, 0, 3 * 4096), text.as_slice());

    let mut first = true;
    let write = rig.write(file, 0, text.clone());
    let full = rig.changed(write, &mut |_, _| match std::mem::take(&mut first) {
        true => Ok(Gain::Count(1024)),
        false => Err(libc::ENOSPC),
    });
    assert_eq!(
        full.unwrap_err(),
        DiskError::Full,
        "not an error of the disk"
    );
    let write = rig.write(file, 0, text);
    let stuck = rig.changed(write, &mut |_, _| Ok(Gain::Count(512)));
    let errno = libc::EIO;
    assert_eq!(stuck.unwrap_err(), DiskError::Io { errno });
}

#[test]
fn a_read_that_stops_in_a_block_is_no_end_of_the_file() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, MIB);
    let text = pattern(3 * BLOCK, 5);
    rig.written(file, 0, text.clone());
    let mut first = true;
    let read = rig.read(file, 0, 3 * 4096);
    let whole = rig.changed(read, &mut |_, result| match std::mem::take(&mut first) {
        true => Ok(Gain::Count(BLOCK + 512)),
        false => result,
    });
    assert_eq!(data(whole), text.as_slice());
    let mut first = true;
    let read = rig.read(file, 0, 3 * 4096);
    let failed = rig.changed(read, &mut |_, _| match std::mem::take(&mut first) {
        true => Ok(Gain::Count(BLOCK + 512)),
        false => Err(libc::EIO),
    });
    let errno = libc::EIO;
    assert_eq!(failed.unwrap_err(), DiskError::Io { errno });
}

#[test]
fn a_write_into_a_deleted_file_is_not_durable() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, MIB);
    rig.written(file, 0, pattern(BLOCK, 1));
    fs::remove_file(rig.dir.join(file.path())).unwrap();
    let write = rig.write(file, 0, pattern(BLOCK, 2));
    assert_eq!(rig.one(write).unwrap_err(), DiskError::Missing);
}

#[test]
fn a_write_is_not_durable_while_the_directory_is_elsewhere() {
    let mut rig = rig();
    let file = segment(1);
    rig.created(file, MIB);
    rig.written(file, 0, pattern(BLOCK, 1));
    let away = rig.dir.with_extension("away");
    for other in [false, true] {
        fs::rename(&rig.dir, &away).unwrap();
        if other {
            fs::create_dir(&rig.dir).unwrap();
        }
        let write = rig.write(file, 0, pattern(BLOCK, 2));
        rig.disk.looked = None;
        assert_eq!(rig.one(write).unwrap_err(), DiskError::Missing);
        if other {
            fs::remove_dir(&rig.dir).unwrap();
        }
        fs::rename(&away, &rig.dir).unwrap();
        rig.written(file, 0, pattern(BLOCK, 3));
    }
}

#[test]
fn a_folder_that_was_made_and_not_flushed_is_flushed_at_the_start() {
    let rig = rig();
    // Nobody can see whether it was, so this counts on the count.
    assert_eq!(rig.disk.stats.disk_flushes, 1);
}
