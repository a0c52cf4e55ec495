# frozen_string_literal: true

module SwarmNative
  module Karafka
    # What the native supervisor tells, on Karafka's monitor: Karafka's own events of the swarm as they were, and each
    # event of ours as `swarm_native.NAME`.
    #
    # @example
    #   Karafka.monitor.subscribe("swarm_native.node_exited") do |event|
    #     Metrics.increment("swarm.exits", tags: ["reason:#{event[:reason]}"])
    #   end
    module Events
      NAMES = Event::NAMES.to_h { |name| [name, "swarm_native.#{name}".freeze] }.freeze

      # What Karafka says of a node that is stopped because it has not reported.
      NOT_REPORTING = -1
      private_constant :NOT_REPORTING

      # A bus that is made later knows our events too.
      module Registered
        def initialize(...)
          super
          NAMES.each_value { |name| register_event(name) }
        end
      end

      class << self
        # @api private
        def join
          ::Karafka::Instrumentation::Notifications.prepend(Registered)
          bus = ::Karafka::App.config.monitor.notifications_bus
          NAMES.each_value { |name| bus.register_event(name) } if bus.respond_to?(:register_event)
        end

        # @api private
        def publish(loop, event)
          payload = { caller: loop.manager, node: loop.face(event.node_id) }
          monitor = ::Karafka.monitor
          case event.name
          when :node_unhealthy
            status = event.reason[/\Aunhealthy\((\d+)\)/, 1]
            # Karafka's come with the time that their block took, as `time`.
            monitor.instrument("swarm.manager.stopping", **payload, status: status ? status.to_i : NOT_REPORTING) {}
          when :node_killed
            # Karafka tells of those that hang while the swarm runs; what it kills to stop is an error of its own.
            monitor.instrument("swarm.manager.terminating", **payload) {} unless loop.stopping?
          when :error then tell_error(monitor, loop, event)
          end
          monitor.instrument(NAMES[event.name], **payload, **details(event))
        end

        private

        # A type that Karafka's own listeners know: they raise at others.
        def tell_error(monitor, loop, event)
          monitor.instrument("error.occurred", caller: loop, error: event.error || Error.new(event.message),
                                               manager: loop.manager, type: "swarm.supervisor.error")
        end

        def details(event)
          { event: event, pid: event.pid, reason: event.reason, exit_status: event.exit_status,
            duration: event.duration, restart_in: event.restart_in, memory: event.memory,
            diagnosis: event.diagnosis, message: event.to_s }
        end
      end
    end
  end
end
