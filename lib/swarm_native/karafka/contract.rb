# frozen_string_literal: true

module SwarmNative
  module Karafka
    # What this drop-in relies on in Karafka, checked when it is loaded: a version that has changed a piece is refused
    # by that piece's name, instead of failing later in a way that nobody can tell.
    #
    # @api private
    module Contract
      # The versions that the specs run against.
      OLDEST = Gem::Version.new("2.5.0")
      NEWEST = Gem::Version.new("2.6.1")

      # Class, method, number of arguments.
      METHODS = [
        ["Karafka::Swarm::Supervisor", :run, 0],
        ["Karafka::Swarm::Supervisor", :lock, 0],
        ["Karafka::Swarm::Supervisor", :unlock, 0],
        ["Karafka::Swarm::Supervisor", :control, 0],
        ["Karafka::Swarm::Supervisor", :stop, 0],
        ["Karafka::Swarm::Supervisor", :quiet, 0],
        ["Karafka::Swarm::Supervisor", :shutdown_timeout, 0],
        ["Karafka::Swarm::Supervisor", :supervision_interval, 0],
        ["Karafka::Swarm::Supervisor", :manager, 0],
        *%i[start nodes quiet stop terminate cleanup stopped? control].map { |name| ["Karafka::Swarm::Manager", name, 0] },
        ["Karafka::Swarm::Manager", :signal, 1],
        ["Karafka::Swarm::Node", :initialize, 2],
        *%i[start healthy status alive? orphaned? stop quiet terminate cleanup id pid].map do |name|
          ["Karafka::Swarm::Node", name, 0]
        end,
        ["Karafka::Swarm::Node", :signal, 1],
        ["Karafka::Swarm::Node", :write, 1],
        ["Karafka::Connection::Client", :build_consumer, 0],
        ["Karafka::Connection::Client", :poll, 1],
        ["Karafka::Connection::Client", :rebalance_manager, 0],
        ["Karafka::Connection::Client", :reset, 0],
        ["Karafka::Connection::Client", :kafka, 0],
        ["Karafka::Connection::Client", :events_poll, 1],
        ["Karafka::Connection::Client", :subscription_group, 0],
        ["Karafka::Processing::JobsQueue", :register, 1],
        ["Rdkafka::Consumer", :poll, 1],
        ["Rdkafka::NativeKafka", :with_inner, 0],
        ["Karafka::Process", :supervise, 0],
        ["Karafka::Process", :trap_signal, 1],
        ["Karafka::Process", :notice_signal, 1]
      ].freeze

      EVENTS = %w[app.supervising swarm.manager.before_fork swarm.manager.after_fork swarm.manager.control
                  swarm.manager.stopping swarm.manager.terminating swarm.node.after_fork error.occurred
                  process.notice_signal connection.listener.before_fetch_loop connection.listener.fetch_loop].freeze

      SETTINGS = %i[manager supervision_interval liveness_interval liveness_listener node_report_timeout
                    node_restart_timeout orphaned_exit_code].freeze

      # Of librdkafka, beyond what the binding has as methods.
      FUNCTIONS = %w[rd_kafka_consumer_poll rd_kafka_queue_get_main rd_kafka_queue_get_consumer rd_kafka_queue_length
                     rd_kafka_queue_destroy rd_kafka_offsets_store rd_kafka_assignment_lost rd_kafka_poll].freeze

      # Of Karafka's queue of jobs: what is replaced, or has been ({HandOver}), and what guards it.
      QUEUES = { :@queue => [Thread::Queue, Turnstile::Queue], :@semaphores => [Hash], :@mutex => [Thread::Mutex] }.freeze

      class << self
        # @raise [SwarmNative::Error] that names each piece that is not as expected
        def check!
          version = Gem::Version.new(::Karafka::VERSION)
          raise Error, "Karafka #{version} is too old for swarm_native: #{OLDEST} or newer is needed" if version < OLDEST

          pieces = problems
          unless pieces.empty?
            raise Error, "Karafka #{version} differs from what swarm_native knows (#{OLDEST} to #{NEWEST}): " \
                         "#{pieces.join("; ")}. Use an older Karafka or a newer karafka_swarm."
          end
          return unless version.release > NEWEST

          warn "swarm_native has not been tested with Karafka #{version}, only up to #{NEWEST}; what it relies on is there"
        end

        # @return [Array<String>]
        def problems
          missing_methods + missing_events + missing_settings + missing_bindings + missing_queues
        end

        private

        def missing_methods
          METHODS.filter_map do |owner, name, arguments|
            found = class_named(owner)
            next "#{owner} is gone" unless found

            "#{owner}##{name} is gone or takes other arguments" unless takes?(found, name, arguments)
          end.uniq
        end

        def class_named(name)
          Object.const_get(name)
        rescue NameError
          nil
        end

        def takes?(owner, name, arguments)
          arity = owner.instance_method(name).arity
          arity.negative? ? arguments >= ~arity : arguments == arity
        rescue NameError
          false
        end

        # What polling needs of the binding, and the starts of a process that consumes.
        def missing_bindings
          server = ::Karafka::Server.singleton_class
          [
            *%i[start stop quiet].reject { |name| takes?(server, name, 0) }
                               .map { |name| "Karafka::Server.#{name} is gone or takes other arguments" },
            ("log.queue is no longer on in Rdkafka::Config" unless log_queue?),
            ("revoked_partitions is gone from Karafka's rebalance manager" unless revoked_partitions?),
            *(FUNCTIONS - found_functions).map { |name| "#{name} is not in the library of Rdkafka::Bindings" }
          ].compact
        end

        # Without it threads of librdkafka's wait for the GVL in the midst of their work.
        def log_queue?
          Rdkafka::Config::REQUIRED_CONFIG[:"log.queue"] == true
        rescue NameError
          false
        end

        # It has moved once, with 2.6.0.
        def revoked_partitions?
          %w[Karafka::Connection::RebalanceManager Karafka::Connection::ConsumerGroups::RebalanceManager].any? do |name|
            class_named(name)&.then { |found| takes?(found, :revoked_partitions, 0) }
          end
        end

        def found_functions
          library = Rdkafka::Bindings.ffi_libraries.first
          FUNCTIONS.select do |name|
            library.find_function(name)
          rescue FFI::NotFoundError
            false
          end
        rescue NameError
          []
        end

        def missing_queues
          queue = ::Karafka::Processing::JobsQueue.new
          QUEUES.reject { |name, types| types.include?(queue.instance_variable_get(name).class) }
                .map { |name, types| "Karafka::Processing::JobsQueue has no #{types.first} in #{name}" }
        rescue NameError, ArgumentError
          ["Karafka::Processing::JobsQueue is gone or takes other arguments"]
        end

        def missing_events
          (EVENTS - ::Karafka::Instrumentation::Notifications::EVENTS).map { |event| "the event #{event} is gone" }
        rescue NameError
          ["Karafka::Instrumentation::Notifications::EVENTS is gone"]
        end

        def missing_settings
          internal = ::Karafka::App.config.internal
          [
            *("the setting internal.process is gone" unless internal.respond_to?(:process)),
            *SETTINGS.reject { |name| internal.swarm.respond_to?(name) }
                     .map { |name| "the setting internal.swarm.#{name} is gone" }
          ]
        rescue NameError
          ["the settings internal.swarm are gone"]
        end
      end
    end
  end
end
