//! Threads that share a device do not disturb each other.

use super::{add, numbers, open};
use crate::{Commands, Gpu};

fn is_shared<T: Send + Sync>(_: &T) {}

#[pollster::test]
async fn threads_that_share_a_device_keep_their_parameters_apart() {
    const ROUNDS: u32 = 200;
    let gpu = open().await;
    is_shared(&gpu);
    let run = |gpu: Gpu, value: u32| async move {
        let y = numbers(&gpu, 256);
        for _ in 0..ROUNDS {
            let mut commands = Commands::new();
            add(&mut commands, &y, value, 0, 256);
            gpu.run(&commands).await.unwrap();
        }
        gpu.finish().await.unwrap();
        gpu.read::<u32>(y).await.unwrap()
    };
    let threads: Vec<_> = (1..5)
        .map(|n| {
            let (gpu, value) = (gpu.clone(), 10_u32.pow(n));
            std::thread::spawn(move || (value, pollster::block_on(run(gpu, value))))
        })
        .collect();
    for thread in threads {
        let (value, found) = thread.join().unwrap();
        assert_eq!(found, vec![ROUNDS * value; 256]);
    }
}
