;; The smallest charm, by hand: describes the stream `run` that takes anything, and handles every event with ok.
;; Tests put text in place of the comments in (; ;), or of other parts.
(component
  (; in component ;)
  (core module $module
    (; in module ;)
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 4096))
    ;; {streams: {run: {shape: "any"}}}
    (data (i32.const 64) "\a1\67streams\a1\63run\a1\65shape\63any")
    ;; What the host passes is never freed: an instance lives one turn. Grows as far as it must.
    (func (export "realloc") (param i32 i32 i32) (param $bytes i32) (result i32)
      (local $start i32)
      (local.set $start (i32.and (i32.add (global.get $free) (i32.const 7)) (i32.const -8)))
      (global.set $free (i32.add (local.get $start) (local.get $bytes)))
      (block $enough
        (loop $more
          (br_if $enough (i32.le_u (global.get $free) (i32.mul (memory.size) (i32.const 65536))))
          (br_if $more (i32.ge_s (memory.grow (i32.const 1)) (i32.const 0)))
          unreachable))
      (local.get $start))
    ;; At 16: address and length of the description.
    (func (export "describe") (result i32)
      (i32.store (i32.const 16) (i32.const 64))
      (i32.store (i32.const 20) (i32.const 25))
      (; in describe ;)
      (i32.const 16))
    ;; At 128: 0 for ok, else 1 and the text.
    (func (export "handle") (param $stream i32) (param i32) (param $event i32) (param $bytes i32) (result i32)
      (; in handle ;)
      (i32.const 128)))
  (core instance $guest (instantiate $module (; with ;)))
  (func $describe (result (list u8))
    (canon lift (core func $guest "describe") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
  (func $handle (param "stream" string) (param "event" (list u8)) (result (result (error string)))
    (canon lift (core func $guest "handle") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
  (instance $exports (export "describe" (func $describe)) (export "handle" (func $handle)))
  (export "charm:host/guest@0.2.0" (instance $exports)))
