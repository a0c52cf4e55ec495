# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Admin
      # Configurations of topics, brokers and groups. Each is named by a pair: `[:topic, "orders"]`, `[:broker, 1]`,
      # `[:group, "billing"]`.
      module Configs
        KINDS = { topic: 2, group: 3, broker: 4 }.freeze
        OPERATIONS = { set: 0, append: 2, subtract: 3 }.freeze
        RESET = 1
        private_constant :KINDS, :OPERATIONS, :RESET

        # @param resources [Array<Array(Symbol, String)>]
        # @param timeout [Float] seconds
        # @return [Hash{Array => Hash{String => Property}, Kafka::Error}]
        def describe_configs(*resources, timeout: TIMEOUT)
          list = resources.map { |resource| resource_of(resource) }
          by_resource(resources, Kafka.wait { native_describe_configs(list, timeout) }) do |properties|
            properties.transform_values { |property| Property.new(**property).freeze }
          end
        end

        # @param resource [Array(Symbol, String)]
        # @param timeout [Float] seconds
        # @return [Hash{String => Property}]
        # @raise [Kafka::Error]
        def describe_config(resource, timeout: TIMEOUT)
          only(describe_configs(resource, timeout: timeout))
        end

        # Changes some properties and leaves the others as they are.
        #
        # @example
        #   admin.alter_configs({ [:topic, "orders"] => { "retention.ms" => 3_600_000, "max.message.bytes" => nil,
        #                                                 "cleanup.policy" => { append: "compact" } } })
        # @param changes [Hash{Array => Hash{String => Object}}] resource, property, and the value; nil is the default
        #   again, `{ append: }` and `{ subtract: }` change a list
        # @param validate_only [Boolean] only says whether it could be
        # @param timeout [Float] seconds
        # @return [Hash{Array => true, Kafka::Error}]
        def alter_configs(changes, validate_only: false, timeout: TIMEOUT)
          list = changes.map do |resource, properties|
            [*resource_of(resource), properties.map { |name, value| change_of(name.to_s, value) }]
          end
          by_resource(changes.keys, Kafka.wait { native_alter_configs(list, validate_only, timeout) }) { true }
        end

        private

        def resource_of(resource)
          kind, name = resource
          unless resource.is_a?(Array) && resource.size == 2
            raise TypeError, "what has a configuration is a pair such as [:topic, \"orders\"], not #{resource.inspect}"
          end

          [number_of("configuration", KINDS, kind), name.to_s]
        end

        def change_of(name, value)
          return [name, RESET, nil] if value.nil?
          return [name, OPERATIONS[:set], value.to_s] unless value.is_a?(Hash)

          unless value.size == 1
            raise ArgumentError, "#{name}: #{value.inspect} given, allowed: a value, nil, { append: } or { subtract: }"
          end

          operation, part = value.first
          [name, number_of(name, OPERATIONS, operation), part.to_s]
        end

        # Answers come in any order and are named by kind and name.
        def by_resource(resources, answers)
          answers = answers.to_h { |kind, name, answer| [[kind, name], answer] }
          each_value(resources.to_h { |resource| [resource, answers.fetch(resource_of(resource))] }) { |found| yield found }
        end
      end
    end
  end
end
