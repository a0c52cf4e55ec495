# frozen_string_literal: true

module SwarmNative
  module Karafka
    # A batch passes from a listener to a worker and back through queues of Karafka's. Before Ruby 3.3 the turnstile does
    # not hear of waits in Ruby's queues, and beside a thread that burns CPU each such wait ends 100 ms late. There these
    # queues are the gem's own, {Turnstile::Queue}, whose waits ask for the GVL.
    #
    # @api private
    module HandOver
      # Karafka's queue of jobs: one queue that workers wait for, and one for each listener that waits for its jobs' end.
      module JobsQueue
        def initialize(...)
          super
          @swarm_native = HandOver.serves?(self)
          @queue = Turnstile::Queue.new if @swarm_native
        end

        # Nobody can wait for the one that is replaced: a listener is registered before it runs.
        def register(group_id)
          super
          @mutex.synchronize { @semaphores[group_id] = Turnstile::Queue.new } if @swarm_native
        end
      end

      class << self
        def join
          ::Karafka::Processing::JobsQueue.prepend(JobsQueue) if needed?
        end

        # From Ruby 3.3 on the turnstile knows of all waits.
        def needed? = Turnstile.respond_to?(:native_wait, true)

        # Queues of another make, of Pro's too, are left alone.
        def serves?(queue)
          Karafka.settings.fast_hand_over && queue.instance_of?(::Karafka::Processing::JobsQueue)
        end
      end
    end
  end
end
