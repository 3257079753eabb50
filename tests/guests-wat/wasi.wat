;; A plain WASI 0.2 component, by hand: clocks, random and standard output, nothing of charm:host but the exported guest.
;; Streams: `look` rejects with what it sees, as hexadecimal digits; `print` writes two lines to standard output;
;; `wait` asks for a timer.
(component
  (import "wasi:io/error@0.2.0" (instance $errors (export "error" (type (sub resource)))))
  (alias export $errors "error" (type $io-error))
  (import "wasi:io/poll@0.2.0" (instance $poll (export "pollable" (type (sub resource)))))
  (alias export $poll "pollable" (type $pollable))
  (import "wasi:io/streams@0.2.0" (instance $streams
    (export "output-stream" (type $stream (sub resource)))
    (alias outer 1 $io-error (type $outer-error))
    (export "error" (type $error (eq $outer-error)))
    (type $failure (variant (case "last-operation-failed" (own $error)) (case "closed")))
    (export "stream-error" (type $stream-error (eq $failure)))
    (export "[method]output-stream.blocking-write-and-flush"
      (func (param "self" (borrow $stream)) (param "contents" (list u8)) (result (result (error $stream-error)))))))
  (alias export $streams "output-stream" (type $output-stream))
  (import "wasi:cli/stdout@0.2.0" (instance $stdout
    (alias outer 1 $output-stream (type $outer-stream))
    (export "output-stream" (type $stream (eq $outer-stream)))
    (export "get-stdout" (func (result (own $stream))))))
  (import "wasi:clocks/wall-clock@0.2.0" (instance $wall
    (type $time (record (field "seconds" u64) (field "nanoseconds" u32)))
    (export "datetime" (type $datetime (eq $time)))
    (export "now" (func (result $datetime)))))
  (import "wasi:clocks/monotonic-clock@0.2.0" (instance $monotonic
    (alias outer 1 $pollable (type $outer-pollable))
    (export "pollable" (type $timer (eq $outer-pollable)))
    (export "now" (func (result u64)))
    (export "subscribe-duration" (func (param "when" u64) (result (own $timer))))))
  (import "wasi:random/random@0.2.0" (instance $random (export "get-random-u64" (func (result u64)))))

  ;; The memory comes first: what is lowered below writes into it.
  (core module $libc-module
    (memory (export "memory") 2)
    (global $free (mut i32) (i32.const 65536))
    (func (export "realloc") (param i32 i32 i32) (param $bytes i32) (result i32)
      (local $start i32)
      (local.set $start (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $start) (local.get $bytes)))
      (local.get $start)))
  (core instance $libc (instantiate $libc-module))
  (core func $wall-now (canon lower (func $wall "now") (memory (core memory $libc "memory"))))
  (core func $monotonic-now (canon lower (func $monotonic "now")))
  (core func $subscribe (canon lower (func $monotonic "subscribe-duration")))
  (core func $random-u64 (canon lower (func $random "get-random-u64")))
  (core func $get-stdout (canon lower (func $stdout "get-stdout")))
  (core func $write (canon lower (func $streams "[method]output-stream.blocking-write-and-flush")
    (memory (core memory $libc "memory"))))
  (core func $drop-stream (canon resource.drop $output-stream))

  (core module $module
    (import "libc" "memory" (memory 2))
    (import "wasi" "wall-now" (func $wall-now (param i32)))
    (import "wasi" "monotonic-now" (func $monotonic-now (result i64)))
    (import "wasi" "subscribe" (func $subscribe (param i64) (result i32)))
    (import "wasi" "random" (func $random (result i64)))
    (import "wasi" "get-stdout" (func $get-stdout (result i32)))
    (import "wasi" "write" (func $write (param i32 i32 i32 i32)))
    (import "wasi" "drop-stream" (func $drop-stream (param i32)))
    ;; {streams: {look: {shape: "any"}, wait: .., print: ..}}
    (data (i32.const 256) "\a1\67streams\a3\64look\a1\65shape\63any\64wait\a1\65shape\63any\65print\a1\65shape\63any")
    (data (i32.const 512) "the first line\nthe second line\n")
    (data (i32.const 768) "0123456789abcdef")

    ;; At 16: address and length of the description.
    (func (export "describe") (result i32)
      (i32.store (i32.const 16) (i32.const 256))
      (i32.store (i32.const 20) (i32.const 59))
      (i32.const 16))

    ;; Writes 16 digits.
    (func $hex (param $at i32) (param $number i64)
      (local $left i32)
      (local.set $left (i32.const 16))
      (loop $digit
        (local.set $left (i32.sub (local.get $left) (i32.const 1)))
        (i32.store8 (i32.add (local.get $at) (local.get $left))
          (i32.load8_u offset=768 (i32.and (i32.wrap_i64 (local.get $number)) (i32.const 15))))
        (local.set $number (i64.shr_u (local.get $number) (i64.const 4)))
        (br_if $digit (local.get $left))))
    ;; Seconds, nanoseconds, the other clock before and after some work, two random numbers: 96 digits at 1024.
    (func $look
      (local $work i32)
      (call $wall-now (i32.const 144))
      (call $hex (i32.const 1024) (i64.load (i32.const 144)))
      (call $hex (i32.const 1040) (i64.load32_u (i32.const 152)))
      (call $hex (i32.const 1056) (call $monotonic-now))
      (local.set $work (i32.const 1000000))
      (loop $again
        (local.set $work (i32.sub (local.get $work) (i32.const 1)))
        (br_if $again (local.get $work)))
      (call $hex (i32.const 1072) (call $monotonic-now))
      (call $hex (i32.const 1088) (call $random))
      (call $hex (i32.const 1104) (call $random))
      (i32.store (i32.const 128) (i32.const 1))
      (i32.store (i32.const 132) (i32.const 1024))
      (i32.store (i32.const 136) (i32.const 96)))
    (func $print
      (local $stream i32)
      (local.set $stream (call $get-stdout))
      (call $write (local.get $stream) (i32.const 512) (i32.const 31) (i32.const 160))
      (call $drop-stream (local.get $stream)))
    ;; At 128: 0 for ok, else 1 and the text.
    (func (export "handle") (param $stream i32) (param i32 i32 i32) (result i32)
      (local $first i32)
      (local.set $first (i32.load8_u (local.get $stream)))
      (if (i32.eq (local.get $first) (i32.const 0x6c)) (then (call $look)))
      (if (i32.eq (local.get $first) (i32.const 0x70)) (then (call $print)))
      (if (i32.eq (local.get $first) (i32.const 0x77)) (then (drop (call $subscribe (i64.const 1000)))))
      (i32.const 128)))
  (core instance $guest (instantiate $module
    (with "libc" (instance $libc))
    (with "wasi" (instance
      (export "wall-now" (func $wall-now))
      (export "monotonic-now" (func $monotonic-now))
      (export "subscribe" (func $subscribe))
      (export "random" (func $random-u64))
      (export "get-stdout" (func $get-stdout))
      (export "write" (func $write))
      (export "drop-stream" (func $drop-stream))))))

  (func $describe (result (list u8))
    (canon lift (core func $guest "describe") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (func $handle (param "stream" string) (param "event" (list u8)) (result (result (error string)))
    (canon lift (core func $guest "handle") (memory (core memory $libc "memory")) (realloc (core func $libc "realloc"))))
  (instance $exports (export "describe" (func $describe)) (export "handle" (func $handle)))
  (export "charm:host/guest@0.2.0" (instance $exports)))
