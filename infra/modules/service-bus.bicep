// The namespace with the queues, topic and subscriptions that the app's topology names, for the workflows it serves.

param namespaceName string
param location string
param tags object
param tier string
param workflows array
param isPrivate bool
param principalId string
param dataOwnerRoleId string
param workspaceId string

var topology = loadJsonContent('../topology.json')
var needed = filter(topology.queues, queue => !empty(intersection(queue.workflows, workflows)))
var forwardedTo = filter(needed, queue => !contains(queue.properties, 'forwardDeadLetteredMessagesTo'))
var forwarding = filter(needed, queue => contains(queue.properties, 'forwardDeadLetteredMessagesTo'))

resource namespace 'Microsoft.ServiceBus/namespaces@2024-01-01' = {
  name: namespaceName
  location: location
  tags: tags
  sku: {
    name: tier
    tier: tier
  }
  properties: {
    // Identities only: there is no connection string to lose.
    disableLocalAuth: true
    minimumTlsVersion: '1.2'
    publicNetworkAccess: isPrivate ? 'Disabled' : 'Enabled'
  }
}

resource lastQueues 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = [for queue in forwardedTo: {
  parent: namespace
  name: queue.name
  properties: queue.properties
}]

resource queues 'Microsoft.ServiceBus/namespaces/queues@2024-01-01' = [for queue in forwarding: {
  parent: namespace
  name: queue.name
  properties: queue.properties
  dependsOn: [
    lastQueues
  ]
}]

resource topics 'Microsoft.ServiceBus/namespaces/topics@2024-01-01' = [for topic in topology.topics: {
  parent: namespace
  name: topic.name
  properties: topic.properties
}]

resource subscriptions 'Microsoft.ServiceBus/namespaces/topics/subscriptions@2024-01-01' = [for subscription in topology.subscriptions: {
  name: '${namespaceName}/${subscription.topic}/${subscription.name}'
  properties: subscription.properties
  dependsOn: [
    topics
  ]
}]

resource owner 'Microsoft.Authorization/roleAssignments@2022-04-01' = {
  name: guid(namespace.id, principalId, dataOwnerRoleId)
  scope: namespace
  properties: {
    principalId: principalId
    principalType: 'ServicePrincipal'
    roleDefinitionId: subscriptionResourceId('Microsoft.Authorization/roleDefinitions', dataOwnerRoleId)
  }
}

resource logs 'Microsoft.Insights/diagnosticSettings@2021-05-01-preview' = {
  name: 'to-workspace'
  scope: namespace
  properties: {
    workspaceId: workspaceId
    logs: [
      {
        categoryGroup: 'allLogs'
        enabled: true
      }
    ]
    metrics: [
      {
        category: 'AllMetrics'
        enabled: true
      }
    ]
  }
}

output id string = namespace.id
output fullyQualifiedNamespace string = split(split(namespace.properties.serviceBusEndpoint, '//')[1], ':')[0]
