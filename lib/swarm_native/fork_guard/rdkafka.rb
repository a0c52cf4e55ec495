# frozen_string_literal: true

module SwarmNative
  module ForkGuard
    # What the guard knows of karafka-rdkafka and rdkafka-ruby (both are the module ::Rdkafka) and of WaterDrop on top.
    #
    # All their handles are held by an `Rdkafka::NativeKafka`, which every use, `close` and finaliser goes through.
    module Rdkafka
      OWNERS = %i[Producer Consumer Admin].freeze
      private_constant :OWNERS

      # Remembers who made a handle, and where.
      module Places
        def initialize(...)
          Rdkafka.stamp(self)
          super
        end
      end

      # Makes a handle harmless in a process that did not make it.
      module NativeKafkaInChildren
        def with_inner(...)
          Rdkafka.refuse_inherited(self)
          super
        end

        def synchronize(...)
          Rdkafka.refuse_inherited(self)
          super
        end

        def closed?
          Rdkafka.inherited?(self) || super
        end

        def close(...)
          super unless Rdkafka.inherited?(self)
        end
      end

      # Says so before the owner says that it is closed.
      module OwnerInChildren
        private

        %i[closed_producer_check closed_consumer_check closed_admin_check closed_check].each do |check|
          define_method(check) do |method|
            Rdkafka.refuse_inherited(@native_kafka, self.class)
            super(method)
          end
        end
      end

      # Says so of an answer that the parent gets, if any, instead of letting its child wait for it.
      module AnswerInChildren
        def initialize(...)
          super
          @swarm_native_pid = Process.pid
        end

        def wait(...)
          Rdkafka.refuse_to_wait(self) if pending?
          super
        end
      end

      class << self
        # Has the makers of handles remembered from now on, as far as the bindings are loaded.
        # @return [Boolean] whether one is
        def install
          install_on(::WaterDrop::Producer) if defined?(::WaterDrop::Producer)
          return false unless defined?(::Rdkafka::NativeKafka)

          install_on(::Rdkafka::NativeKafka)
          true
        end

        # Makes what children will inherit harmless there.
        def disarm_in_children
          return unless install && !(::Rdkafka::NativeKafka <= NativeKafkaInChildren)

          ::Rdkafka::NativeKafka.prepend(NativeKafkaInChildren)
          OWNERS.each do |owner|
            ::Rdkafka.const_get(owner).prepend(OwnerInChildren) if ::Rdkafka.const_defined?(owner)
          end
          # Those that wait already are this process's.
          @first_to_fork = Process.pid
          ::Rdkafka::AbstractHandle.prepend(AnswerInChildren) if defined?(::Rdkafka::AbstractHandle)
        end

        # @return [:open, :closing, nil] how the handles of this process stand; nil where there are none
        def state
          return unless install

          states = each_native.map { |native| phase_of(native) }
          %i[open closing].find { |state| states.include?(state) }
        end

        # @return [Array<LiveHandle>]
        def live
          return [] unless install

          owners = owners_of_natives
          each_native.filter_map do |native|
            phase = phase_of(native)
            live_handle(native, owners[native], phase) if phase
          end
        end

        # Says of a handle that is being made whose it is, where it is made and when.
        # @api private
        def stamp(handle)
          place = Core.place
          handle.instance_variable_set(:@swarm_native_pid, Process.pid)
          handle.instance_variable_set(:@swarm_native_made_at, place) unless place.empty?
          handle.instance_variable_set(:@swarm_native_since, Time.now)
        end

        # @api private
        def inherited?(native)
          native.instance_variable_get(:@swarm_native_pid) != Process.pid
        end

        # @api private
        def refuse_inherited(native, owner = native.class)
          return unless inherited?(native)

          raise StaleHandle, "#{owner} belongs to process #{native.instance_variable_get(:@swarm_native_pid)}, which " \
                             "made it; this is process #{Process.pid}: make a new one here"
        end

        # @api private
        def refuse_to_wait(answer)
          pid = answer.instance_variable_get(:@swarm_native_pid) || @first_to_fork
          return if pid == Process.pid

          raise StaleHandle, "this #{answer.class} belongs to process #{pid}, and its answer never comes to process " \
                             "#{Process.pid}"
        end

        private

        def install_on(makes_handles)
          return if makes_handles <= Places

          makes_handles.prepend(Places)
          # Those that are there already are this process's, but nobody knows where they were made.
          ObjectSpace.each_object(makes_handles) do |handle|
            handle.instance_variable_set(:@swarm_native_pid, Process.pid)
          end
        end

        def each_native
          ObjectSpace.each_object(::Rdkafka::NativeKafka).to_a
        end

        def phase_of(native)
          return if native.instance_variable_get(:@inner).nil? || inherited?(native)

          native.instance_variable_get(:@closing) ? :closing : :open
        end

        # @return [Hash{NativeKafka => Array(Object, Object)}] the owner, and the object whose place counts
        def owners_of_natives
          owners = {}.compare_by_identity
          OWNERS.each do |name|
            next unless ::Rdkafka.const_defined?(name)

            ObjectSpace.each_object(::Rdkafka.const_get(name)) do |owner|
              owners[owner.instance_variable_get(:@native_kafka)] = owner
            end
          end
          with_waterdrop(owners)
        end

        def with_waterdrop(owners)
          return owners unless defined?(::WaterDrop::Producer)

          clients = owners.invert.compare_by_identity
          ObjectSpace.each_object(::WaterDrop::Producer) do |producer|
            native = clients[producer.instance_variable_get(:@client)]
            owners[native] = producer if native
          end
          owners
        end

        def live_handle(native, owner, phase)
          LiveHandle.new(class_name: (owner || native).class.name, name: name_of(native, owner), phase: phase,
                         made_at: (owner || native).instance_variable_get(:@swarm_native_made_at) ||
                                  native.instance_variable_get(:@swarm_native_made_at),
                         since: native.instance_variable_get(:@swarm_native_since))
        end

        # librdkafka's name, or the id that WaterDrop gave. Nobody is waited for: without the lock there is no name.
        def name_of(native, owner)
          return "id=#{owner.id}" if defined?(::WaterDrop::Producer) && owner.is_a?(::WaterDrop::Producer)

          lock = native.instance_variable_get(:@access_mutex)
          return "" unless lock&.try_lock

          begin
            inner = native.instance_variable_get(:@inner)
            inner ? ::Rdkafka::Bindings.rd_kafka_name(inner) : ""
          ensure
            lock.unlock
          end
        end
      end
    end
    private_constant :Rdkafka
  end
end
