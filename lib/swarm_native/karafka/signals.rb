# frozen_string_literal: true

module SwarmNative
  module Karafka
    # Signals of a supervisor and its nodes. Karafka installs its handlers after the first nodes were forked, chains
    # them to what stands there, and lets restarted nodes inherit them. Here
    #
    # - what comes before Karafka's handlers is kept, and done once they stand;
    # - the supervisor's handlers do nothing in a node: a signal that was on its way at the fork is handled there too;
    # - a node has its own handlers from the start, chained to what the user had trapped before the swarm ran.
    #
    # @api private
    module Signals
      # Karafka's list names one that there is not.
      KARAFKAS = (::Karafka::Process::HANDLED_SIGNALS.map { |signal| signal.to_s.delete_prefix("SIG") } &
                  ::Signal.list.keys).freeze

      class << self
        def join
          ::Karafka::Process.prepend(Hook)
        end

        # @return [Hash{String => Object}] what is trapped now of Karafka's signals beyond these
        def beyond(signals)
          (KARAFKAS - signals).to_h do |signal|
            found = trap(signal, "DEFAULT")
            trap(signal, found || "SYSTEM_DEFAULT")
            [signal, found || "SYSTEM_DEFAULT"]
          end
        end

        def put_back(found)
          found&.each { |signal, handler| trap(signal, handler) }
        end
      end

      # Karafka's handlers, for the process that they were installed in.
      module Hook
        def supervise
          super
          loop = Karafka.loop or return
          loop.own? ? loop.joined : loop.child.joined
        end

        private

        def trap_signal(signal)
          super
          return unless Karafka.loop&.own?

          owner = ::Process.pid
          karafkas = ::Signal.trap(signal) do |number|
            next unless ::Process.pid == owner

            # It came before `trap` had returned: once more.
            karafkas ? karafkas.call(number) : ::Process.kill(number, owner)
          end
        end
      end
    end
  end
end
