# frozen_string_literal: true

module SwarmNative
  module Karafka
    # Karafka's Node#start forks by `Process.fork { ... }`, and what it does in the block differs from version to
    # version. Its block stays as it is: while a node starts, the block runs inside of ours.
    #
    # @api private
    module ForkBody
      KEY = :swarm_native_fork_body
      private_constant :KEY

      # Takes what is to be run instead of the block of the next fork of this thread.
      module Hook
        def fork(&body)
          around = ForkBody.take if body
          around ? super { around.call(body) } : super
        end
      end

      class << self
        def join
          ::Process.singleton_class.prepend(Hook)
        end

        # Has the fork that happens in the block run `around` in the child, with Karafka's block as its argument.
        # @raise [Error] no fork happened that way
        def around(around)
          Thread.current[KEY] = around
          yield
          return unless Thread.current[KEY]

          raise Error, "Karafka::Swarm::Node#start has not forked by Process.fork with a block, on which swarm_native relies"
        ensure
          Thread.current[KEY] = nil
        end

        def take
          around = Thread.current[KEY]
          Thread.current[KEY] = nil
          around
        end
      end
    end
  end
end
