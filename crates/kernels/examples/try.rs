use hearth_gpu::*; use hearth_kernels::matmul::*;
fn main(){ pollster::block_on(async {
 let gpu = Gpu::open(&GpuOptions::with_profile(Profile::Full)).await.unwrap();
 println!("{}", gpu.adapter());
 let (t,k,n)=(256u32,2048u32,640u32);
 let x=gpu.buffer_from("x", &vec![0.01f32;(t*k) as usize]).unwrap();
 let y=gpu.buffer("y",(t*n*4) as u64).unwrap();
 let wf=gpu.buffer_from("w", &vec![0.5f32;(n*k) as usize]).unwrap();
 let wq4=gpu.buffer_from("w", &vec![0x11111111u32;(n*k/8) as usize]).unwrap();
 let wq8=gpu.buffer_from("w", &vec![0x01010101u32;(n*k/4) as usize]).unwrap();
 let sc=gpu.buffer_from("s", &vec![0x00003800u32;(n*k/32) as usize]).unwrap();
 for (name,ker,q,cs,wg) in [
  ("direct f32 tm8",&DIRECT_F32,&wf,vec![("TM",8)],[n.div_ceil(256),t/8,1]),
  ("direct f32 tm8 wg8",&DIRECT_F32,&wf,vec![("TM",8),("WG",8)],[n.div_ceil(32),t/8,1]),
  ("direct f32 tm4",&DIRECT_F32,&wf,vec![("TM",4)],[n.div_ceil(256),t/4,1]),
  ("direct q4 tm8 wg8",&DIRECT_Q4,&wq4,vec![("TM",8),("WG",8),("MINIMUM",1)],[n.div_ceil(32),t/8,1]),
  ("direct q8 tm8 wg8",&DIRECT_Q8,&wq8,vec![("TM",8),("WG",8)],[n.div_ceil(32),t/8,1]),
  ("tiled f32 1x1",&TILED_F32,&wf,vec![],[n.div_ceil(64),t.div_ceil(64),1]),
  ("tiled f32 2x2",&TILED_F32,&wf,vec![("MM",2),("NN",2),("GM",8),("GN",8)],[n.div_ceil(64),t.div_ceil(64),1]),
  ("tiled q4 2x2",&TILED_Q4,&wq4,vec![("MM",2),("NN",2),("GM",8),("GN",8),("MINIMUM",1)],[n.div_ceil(64),t.div_ceil(64),1]),
 ] {
  let mut c=Commands::new(); rec(&mut c,ker,&cs,t,n,k,&x,q,&sc,&y,wg);
  gpu.run(&c).await.unwrap(); gpu.finish().await.unwrap();
  let mut best=1e9f64; for _ in 0..4 { let s=std::time::Instant::now(); gpu.run(&c).await.unwrap(); gpu.finish().await.unwrap(); best=best.min(s.elapsed().as_secs_f64()); }
  let v:Vec<f32>=gpu.read(&y).await.unwrap();
  println!("{name}: {:.2} GFLOP/s y0={} ylast={}", 2.0*(t*k*n) as f64/best/1e9, v[0], v[v.len()-1]);
 }
});}
