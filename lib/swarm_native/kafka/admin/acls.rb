# frozen_string_literal: true

module SwarmNative
  module Kafka
    class Admin
      # Access rules. Their words:
      #
      # | | |
      # |---|---|
      # | `resource` | `:topic`, `:group`, `:cluster` (its name is "kafka-cluster"), `:transactional_id` |
      # | `pattern` | `:literal` (a name, or "*" for all), `:prefixed` |
      # | `operation` | `:all`, `:read`, `:write`, `:create`, `:delete`, `:alter`, `:describe`, `:cluster_action`, `:describe_configs`, `:alter_configs`, `:idempotent_write` |
      # | `permission` | `:allow`, `:deny` |
      #
      # In a filter a word that is left out stands for any; `pattern: :match` finds whatever rules hold for a name.
      module Acls
        RESOURCES = { any: 1, topic: 2, group: 3, cluster: 4, transactional_id: 5 }.freeze
        PATTERNS = { any: 1, match: 2, literal: 3, prefixed: 4 }.freeze
        OPERATIONS = { any: 1, all: 2, read: 3, write: 4, create: 5, delete: 6, alter: 7, describe: 8, cluster_action: 9,
                       describe_configs: 10, alter_configs: 11, idempotent_write: 12 }.freeze
        PERMISSIONS = { any: 1, deny: 2, allow: 3 }.freeze
        WORDS = { resource: RESOURCES, pattern: PATTERNS, operation: OPERATIONS, permission: PERMISSIONS }.freeze
        RULE = { pattern: :literal, host: "*", permission: :allow }.freeze
        FILTER = { resource: :any, name: nil, pattern: :any, principal: nil, host: nil, operation: :any,
                   permission: :any }.freeze
        ORDER = %i[resource name pattern principal host operation permission].freeze
        private_constant(*constants(false))

        # @param rules [Array<Hash, Acl>] `resource:`, `name:`, `principal:` ("User:alice"), `operation:`, and maybe
        #   `pattern:` (`:literal`), `host:` ("*") and `permission:` (`:allow`)
        # @param timeout [Float] seconds
        # @return [Array<true, Kafka::Error>] in the order of the rules
        def create_acls(*rules, timeout: TIMEOUT)
          list = rules.flatten.map do |rule|
            given = RULE.merge(rule.to_h)
            missing = ORDER - given.keys
            raise ArgumentError, "a rule needs #{missing.join(", ")}: #{rule.inspect}" if missing.any?

            any = WORDS.keys.find { |word| %i[any match].include?(given[word].to_s.to_sym) }
            raise ArgumentError, "#{any}: #{given[any].inspect} given, which only a filter may have" if any

            numbers(given)
          end
          Kafka.wait { native_create_acls(list, timeout) }
        end

        # @param filter [Hash] what the rules have in common; none: all rules
        # @param timeout [Float] seconds
        # @return [Array<Acl>]
        # @raise [Kafka::Error] such as `:security_disabled`: the cluster has no rules
        def acls(filter = {}, timeout: TIMEOUT, **more)
          found = numbers(FILTER.merge(filter.to_h, more))
          Kafka.wait { native_acls(found, timeout) }.map { |rule| rule_of(rule) }
        end

        # @param filters [Array<Hash, Acl>] as for {#acls}
        # @param timeout [Float] seconds
        # @return [Array<Array<Acl>, Kafka::Error>] what was deleted, in the order of the filters
        def delete_acls(*filters, timeout: TIMEOUT)
          list = filters.flatten.map { |filter| numbers(FILTER.merge(filter.to_h)) }
          raise ArgumentError, "delete_acls needs a filter; {} would be all rules" if list.empty?

          Kafka.wait { native_delete_acls(list, timeout) }.map do |answer|
            answer.is_a?(Exception) ? answer : answer.map { |rule| rule_of(rule) }
          end
        end

        private

        def numbers(given)
          unknown = given.keys - ORDER
          raise ArgumentError, "no such part of a rule: #{unknown.join(", ")}; there are #{ORDER.join(", ")}" if unknown.any?

          ORDER.map do |part|
            words = WORDS[part]
            words ? number_of(part, words, given.fetch(part)) : given.fetch(part)&.to_s
          end
        end

        def rule_of(rule)
          Acl.new(**rule.to_h { |part, value| [part, WORDS.key?(part) ? WORDS[part].key(value) || :unknown : value] }).freeze
        end
      end
    end
  end
end
