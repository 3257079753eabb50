;; The smallest charm, by hand: describes the stream `run` that takes anything, and handles every event with ok.
;; Tests put text in place of the comments in (; ;), or of other parts.
(component
  (; in component ;)
  (core module $module
    (; in module ;)
    (memory (export "memory") 1)
    (global $free (mut i32) (i32.const 4096))
    (data (i32.const 64) "run")
    (data (i32.const 72) "any")
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
    ;; At 16: tags, cells and streams, each an address and a number; at 48 the one stream.
    (func (export "describe") (result i32)
      (i32.store (i32.const 36) (i32.const 1))
      (i32.store (i32.const 32) (i32.const 48))
      (i32.store (i32.const 48) (i32.const 64))
      (i32.store (i32.const 52) (i32.const 3))
      (i32.store (i32.const 56) (i32.const 72))
      (i32.store (i32.const 60) (i32.const 3))
      (; in describe ;)
      (i32.const 16))
    ;; At 128: 0 for ok, else 1 and the text.
    (func (export "handle") (param $stream i32) (param i32) (param $event i32) (param $bytes i32) (result i32)
      (; in handle ;)
      (i32.const 128)))
  (core instance $guest (instantiate $module (; with ;)))
  (type $declaration-type (record (field "name" string) (field "shape" string)))
  (export $declaration "declaration" (type $declaration-type))
  (type $descriptor-type (record
    (field "tags" (list string)) (field "cells" (list $declaration)) (field "streams" (list $declaration))))
  (export $descriptor "descriptor" (type $descriptor-type))
  (func (export "describe") (result $descriptor)
    (canon lift (core func $guest "describe") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc"))))
  (func (export "handle") (param "stream" string) (param "event" (list u8)) (result (result (error string)))
    (canon lift (core func $guest "handle") (memory (core memory $guest "memory")) (realloc (core func $guest "realloc")))))
