"""Data sets in, crop stores out: every picture and every clip goes through the code that serves, so training sees what serving cuts.

python -m services.preprocess.harvest ckplus CK+ --name ckplus --licence "research only" --size 64 --out crops/ckplus

adapters    the dict of them, and `harvest`: one data set, start to end
  parquet pictures afew ckplus videos uploads      list what a data set holds: material
cut         material -> clips, through MTCNN, the tracker and `face_tensor`
store       clips -> a crop store, as a stream; written aside and renamed
"""
